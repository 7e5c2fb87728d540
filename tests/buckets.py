"""A store of objects in memory, of which tests see every one."""

from __future__ import annotations

import contextlib
import errno
import io
from collections.abc import Generator, Iterator
from typing import BinaryIO

from curate.storage import Identity, StoredFile


class Held(StoredFile):
    """An object in memory."""

    def __init__(self, identity: Identity, content: bytes) -> None:
        super().__init__(identity)
        self._content = content

    def pread(self, length: int, offset: int) -> bytes:
        return self._content[offset : offset + length]


class Bucket:
    """Objects in memory, and what was asked for."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.opened: list[str] = []
        self.listed = 0

    def open(self, uri: str) -> StoredFile:
        self.opened.append(uri)
        return Held(self.identity(uri), self.objects[uri])

    def identity(self, uri: str) -> Identity:
        if uri not in self.objects:
            raise FileNotFoundError(errno.ENOENT, "no such object", uri)
        return Identity(uri, len(self.objects[uri]))

    @contextlib.contextmanager
    def writing(self, uri: str) -> Generator[BinaryIO]:
        held = io.BytesIO()
        yield held
        self.objects[uri] = held.getvalue()

    def listing(self, prefix: str) -> Iterator[Identity]:
        self.listed += 1
        yield from (self.identity(uri) for uri in sorted(self.objects) if uri.startswith(prefix))

    def delete(self, uri: str) -> None:
        self.objects.pop(uri, None)
