"""Opens stored objects by path or URL, whole or in part, and identifies them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curate.storage.file import Identity, StoredFile
from curate.storage.scheme import store_of


class _Range(StoredFile):
    """A part of another file, such as a member of an archive; closing it closes the other."""

    def __init__(self, whole: StoredFile, offset: int, length: int) -> None:
        own = whole.identity
        super().__init__(Identity(own.uri, max(0, min(length, own.size - offset)), own.mtime_ns, own.tag))
        self._whole = whole
        self._offset = offset

    def pread(self, length: int, offset: int) -> bytes:
        return self._whole.pread(max(0, min(length, self.size - offset)), self._offset + offset)

    def close(self) -> None:
        self._whole.close()
        super().close()


def open_file(uri: str | os.PathLike[str]) -> StoredFile:
    """Open a stored object for reading.

    Args:
        uri: a local path, or a URL whose scheme is registered.

    Raises:
        LookupError: the URL's scheme is not registered.
        NotRegularError: the path names something other than a file.
        OSError: the object does not exist or cannot be read.
    """
    name = os.fspath(uri)
    return store_of(name).open(name)


def open_range(uri: str | os.PathLike[str], offset: int, length: int) -> StoredFile:
    """Open `length` bytes of a stored object, from `offset`, as a file of their own; see `open_file`.

    Raises:
        ValueError: the offset or the length is negative.
    """
    if offset < 0 or length < 0:
        raise ValueError(f"offset={offset}, length={length}: neither may be negative")
    return _Range(open_file(uri), offset, length)


def identity(uri: str | os.PathLike[str]) -> Identity:
    """Return the identity of a stored object, without reading it.

    Raises:
        LookupError: the URL's scheme is not registered.
        OSError: the object does not exist or cannot be reached.
    """
    name = os.fspath(uri)
    return store_of(name).identity(name)


def upload(path: Path, uri: str) -> None:
    """Write a local file as an object, which appears whole.

    Raises:
        LookupError: the URL's scheme is not registered.
        OSError: the store cannot be reached, or refuses it.
    """
    store = store_of(uri)
    own: Any = getattr(store, "upload", None)
    if own is not None:
        own(path, uri)
        return
    with path.open("rb") as file, store.writing(uri) as target:
        shutil.copyfileobj(file, target, 1 << 20)


def listing(prefix: str) -> Iterator[Identity]:
    """Yield the objects below a URL, in the order of their names.

    Raises:
        LookupError: the URL's scheme is not registered, or its store lists nothing.
        OSError: the store cannot be reached.
    """
    own: Any = getattr(store_of(prefix), "listing", None)
    if own is None:
        raise LookupError(f"{prefix:.300}: objects of this store cannot be listed")
    yield from own(prefix)


def delete(uri: str) -> None:
    """Remove an object, if it is there and its store can remove objects.

    Raises:
        LookupError: the URL's scheme is not registered.
        OSError: the store cannot be reached, or refuses it.
    """
    own: Any = getattr(store_of(uri), "delete", None)
    if own is not None:
        own(uri)
