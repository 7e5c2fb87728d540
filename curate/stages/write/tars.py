"""A tar file whose bytes follow from its members alone."""

from __future__ import annotations

import struct
import tarfile
from typing import BinaryIO

_NAME_BYTES = 100
_SIZE_AT, _CHECKSUM_AT = 124, 148
_MOST_BYTES = 8**11 - 1
"""The largest size that eleven octal digits hold."""


class TarShard:
    """A tar file of a shard: plain headers, without times, owners and modes of this machine.

    The bytes are those of `tarfile`, which takes twice as long: it copies a member in pieces of 10 kB, and makes each
    header from nothing.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = 0
        self._header = _header("", 0)
        checksum = self._header[_CHECKSUM_AT : _CHECKSUM_AT + 8]
        self._sum = int(checksum.rstrip(b"\0 "), 8) - sum(self._header[_SIZE_AT : _SIZE_AT + 12])

    def add(self, name: str, content: bytes) -> None:
        encoded = name.encode(errors="surrogateescape")
        if len(encoded) <= _NAME_BYTES and len(content) <= _MOST_BYTES:
            self._write(self._with(encoded, len(content)))
        else:
            self._write(_header(name, len(content)))
        self._write(content)
        self._write(bytes(-len(content) % tarfile.BLOCKSIZE))

    def close(self) -> None:
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write(bytes(-self._size % tarfile.RECORDSIZE))

    def _with(self, name: bytes, size: int) -> bytes:
        """Return the header of a member: that of a nameless, empty one, with three fields of its own."""
        header = bytearray(self._header)
        octal = b"%011o\0" % size
        struct.pack_into(f"{_NAME_BYTES}s", header, 0, name)
        header[_SIZE_AT : _SIZE_AT + 12] = octal
        header[_CHECKSUM_AT : _CHECKSUM_AT + 8] = b"%06o\0 " % (self._sum + sum(name) + sum(octal))
        return bytes(header)

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self._size += len(content)


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    return member.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape")
