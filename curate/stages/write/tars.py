"""A tar file whose bytes follow from its members alone."""

from __future__ import annotations

import tarfile
from typing import BinaryIO


class TarShard:
    """A tar file of a shard: plain headers, without times, owners and modes of this machine.

    The members are in memory, so each is written at once; `tarfile` copies them in pieces of 10 kB.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = 0

    def add(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        member.mode = 0o644
        self._write(member.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape"))
        self._write(content)
        self._write(bytes(-len(content) % tarfile.BLOCKSIZE))

    def close(self) -> None:
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write(bytes(-self._size % tarfile.RECORDSIZE))

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self._size += len(content)
