"""A stored object that is open for reading, wherever it is stored."""

from __future__ import annotations

import io
import os
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Identity:
    """Identifies the state of a stored object without reading it: a changed object has another identity.

    Args:
        uri: the path or URL, as it was given.
        size: in bytes.
        mtime_ns: the time of the last change, in nanoseconds since 1970; None: the store does not know it.
        tag: what the store names the content with, such as an ETag; "" if it does not.
    """

    uri: str
    size: int
    mtime_ns: int | None = None
    tag: str = ""


class StoredFile(io.RawIOBase):
    """A seekable binary file with its identity, as of opening. A store derives from it and defines `pread`.

    Reading at a place leaves the file's own position alone, so several threads may use `pread` at the same time.

    Args:
        identity: of the object when it was opened.
    """

    def __init__(self, identity: Identity) -> None:
        super().__init__()
        self.identity = identity
        self._position = 0

    @property
    def size(self) -> int:
        """The number of bytes, as of opening."""
        return self.identity.size

    @property
    def descriptor(self) -> int | None:
        """The operating system's descriptor of the open file; None: it has none, use `pread`."""
        return None

    @property
    def is_remote(self) -> bool:
        """Whether every range that is read costs a round trip, so that no more should be read than is needed."""
        return True

    @abstractmethod
    def pread(self, length: int, offset: int) -> bytes:
        """Return `length` bytes from `offset`, fewer only at the end.

        Raises:
            OSError: the store cannot give them.
        """
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        found = self.pread(len(buffer), self._position)
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)
