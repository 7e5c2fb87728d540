"""Local files: opened without side effects, and read from one descriptor."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from curate.storage.atomic import replacing
from curate.storage.file import Identity, StoredFile

# O_NONBLOCK: a FIFO that takes the place of a file between stat and open must not hang the reader.
# O_NOCTTY: opening a terminal must not make it the controlling terminal.
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class NotRegularError(ValueError):
    """A path names a directory, a FIFO, a socket or a device instead of a file; `kind` says which, with its article."""

    def __init__(self, path: str, kind: str) -> None:
        super().__init__(f"{path} is {kind}, not a file")
        self.kind = kind


class LocalFile(StoredFile):
    """A local file, read from its descriptor: a file that takes its name later is not seen."""

    def __init__(self, identity: Identity, descriptor: int) -> None:
        super().__init__(identity)
        self._descriptor = descriptor

    @property
    def descriptor(self) -> int:
        return self._descriptor

    @property
    def is_remote(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._descriptor

    def pread(self, length: int, offset: int) -> bytes:
        parts: list[bytes] = []
        while length > 0 and (part := os.pread(self._descriptor, length, offset)):
            parts.append(part)
            length -= len(part)
            offset += len(part)
        return b"".join(parts)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def open_local(path: str, *, follow_link: bool = True) -> LocalFile:
    """Open a local file for reading.

    Args:
        path: the file.
        follow_link: False: a link in the place of the file itself is refused, with ELOOP; for a path that is resolved
            already, where a link can only have appeared since.

    Raises:
        NotRegularError: the path names something other than a file.
        OSError: the file does not exist, or it cannot be read.
    """
    # Opening a device can have effects (tapes rewind), so its type is checked before.
    _require_regular(os.stat(path).st_mode, path)  # noqa: PTH116 - a Path takes longer to make than to be asked
    descriptor = os.open(path, _OPEN_FLAGS | (0 if follow_link else os.O_NOFOLLOW))
    try:
        status = os.fstat(descriptor)
        _require_regular(status.st_mode, path)
    except BaseException:
        os.close(descriptor)
        raise
    return LocalFile(Identity(path, status.st_size, status.st_mtime_ns), descriptor)


class LocalPaths:
    """The store of paths without a scheme."""

    def open(self, uri: str) -> StoredFile:
        return open_local(uri)

    def identity(self, uri: str) -> Identity:
        status = Path(uri).stat()
        return Identity(uri, status.st_size, status.st_mtime_ns)

    @contextmanager
    def writing(self, uri: str) -> Generator[BinaryIO]:
        with replacing(Path(uri)) as file:
            yield file


def _require_regular(mode: int, path: str) -> None:
    if stat.S_ISREG(mode):
        return
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    raise NotRegularError(path, kinds.get(stat.S_IFMT(mode), "a device"))
