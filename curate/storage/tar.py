"""Where the members of a tar lie, from its headers alone: the content is skipped, and nothing is ever unpacked.

A name is only a name: `../../etc/passwd` leads nowhere, and a link has no content. Unlike `tarfile`, a broken header
in the middle is an error with its place, and never the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import attrs

from curate.storage.file import StoredFile

_BLOCK = 512
_MAX_NAME_BYTES = 1 << 20
_OCTAL = re.compile(rb"[0-7]*")
_DECIMAL = re.compile(r"[0-9]{1,20}")
_PAX_LENGTH = re.compile(rb"([0-9]{1,7}) ")
_FILES = frozenset({b"0", b"\0", b"7"})
_LONG_NAME, _PAX, _PAX_GLOBAL = b"L", b"x", b"g"
_HEADER_BYTES_PER_READ = 16 * _BLOCK

_COMPRESSED: Mapping[bytes, str] = MappingProxyType(
    {
        b"\x1f\x8b": "gzip",
        b"\x28\xb5\x2f\xfd": "zstd",
        b"BZh": "bzip2",
        b"\xfd7zXZ": "xz",
        b"PK\x03\x04": "zip",
    }
)


class TornArchiveError(OSError):
    """An archive that is broken or ends in the middle; the message says where."""


@attrs.frozen
class TarMember:
    """A file in a tar.

    Args:
        name: as the tar has it.
        offset: of its first byte in the tar.
        size: in bytes.
    """

    name: str
    offset: int
    size: int


def is_tar(head: bytes) -> bool:
    """Return whether the first 512 bytes of a file are a tar's."""
    return len(head) >= _BLOCK and (head[257:262] == b"ustar" or _checksum(head) == _number(head[148:156]))


def packed_as(head: bytes) -> str:
    """Return a clause about the compression of a file that begins with these bytes; "" if it has none."""
    name = next((name for magic, name in _COMPRESSED.items() if head.startswith(magic)), None)
    return "" if name is None else f" but {name}, in which no member can be found by its place; unpack it first"


def tar_members(file: StoredFile) -> Iterator[TarMember]:
    """Yield the files in a tar, in order, without folders, links and devices.

    Raises:
        TornArchiveError: the tar is broken, or ends in the middle.
    """
    at, held = 0, (0, b"")
    extended = _Extended()
    while True:
        header, held = _header(file, at, held)
        if len(header) < _BLOCK:
            if header or at == 0 or extended != _Extended():
                raise _torn(file, at, "it ends in the middle of a header")
            return  # without the two empty blocks, as some writers leave it
        if header == bytes(_BLOCK):
            return
        length = _number(header[124:136])
        if _checksum(header) != _number(header[148:156]) or length is None:
            raise _torn(file, at, "its header is broken")
        kind, content = header[156:157], at + _BLOCK
        if kind in (_LONG_NAME, _PAX, _PAX_GLOBAL):
            extended = _extended(file, at, kind, length, extended)
        else:
            length = length if extended.size is None else extended.size
            if content + length > file.size:
                raise _torn(file, at, f"its content has {length} bytes, and the file ends at {file.size}")
            if kind in _FILES:
                yield TarMember(_name(header) if extended.name is None else extended.name, content, length)
            extended = _Extended()
        at = content + -(-length // _BLOCK) * _BLOCK


@attrs.frozen
class _Extended:
    """What an extended header says of the member behind it."""

    name: str | None = None
    size: int | None = None


def _extended(file: StoredFile, at: int, kind: bytes, length: int, before: _Extended) -> _Extended:
    if length > _MAX_NAME_BYTES:
        raise _torn(file, at, f"its extended header has {length} bytes")
    content = file.pread(length, at + _BLOCK)
    if kind == _LONG_NAME:
        return attrs.evolve(before, name=content.rstrip(b"\0").decode(errors="surrogateescape"))
    if kind == _PAX_GLOBAL:
        return before
    fields = _pax_fields(content)
    size = int(fields["size"]) if _DECIMAL.fullmatch(fields.get("size", "")) else before.size
    return _Extended(fields.get("path", before.name), size)


def _header(file: StoredFile, at: int, held: tuple[int, bytes]) -> tuple[bytes, tuple[int, bytes]]:
    """Return the header at a place, and what was read with it: small members lie close together."""
    start, block = held
    if not start <= at <= start + len(block) - _BLOCK:
        start, block = at, file.pread(_HEADER_BYTES_PER_READ, at)
    return block[at - start : at - start + _BLOCK], (start, block)


def _torn(file: StoredFile, at: int, why: str) -> TornArchiveError:
    packed = "" if at else packed_as(file.pread(_BLOCK, 0))
    return TornArchiveError(
        f"{file.identity.uri} is not a tar{packed}"
        if packed
        else f"{file.identity.uri} is not a whole tar: at byte {at}, {why}"
    )


def _name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return (prefix + b"/" + name if prefix else name).decode(errors="surrogateescape")


def _number(field: bytes) -> int | None:
    if field[:1] == b"\x80":  # base 256, for large files; \xff is a negative number, which would lead back
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    return int(digits or b"0", 8) if _OCTAL.fullmatch(digits) else None


def _checksum(header: bytes) -> int:
    return sum(header[:148]) + 8 * 32 + sum(header[156:_BLOCK])


def _pax_fields(content: bytes) -> dict[str, str]:
    fields: dict[str, str] = {}
    at = 0
    while match := _PAX_LENGTH.match(content, at):
        length = int(match[1])
        if not 0 < length <= len(content) - at:
            break
        line = content[match.end() : at + length].removesuffix(b"\n")
        key, _, value = line.partition(b"=")
        fields[key.decode(errors="replace")] = value.decode(errors="surrogateescape")
        at += length
    return fields
