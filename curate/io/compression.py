"""Opens compressed files by their content: gzip, bzip2, xz and zstd; and text in UTF-16 as UTF-8."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)

_BLOCK_BYTES = 1 << 16


def compression_of(head: bytes) -> str:
    """Return the name of the compression that a file's first bytes show; empty: none."""
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "")


@contextmanager
def open_plain(path: Path, compression: str, encoding: str = "utf-8") -> Generator[BinaryIO]:
    """Open a file for reading, decompressed, and in UTF-8.

    Raises:
        EOFError: it ends in the middle, is damaged, or is not in its encoding; also while it is read in the block.
        OSError: it cannot be read.
    """
    with path.open("rb") as raw:
        try:
            plain = _decompressed(raw, compression)
            if encoding != "utf-8":
                plain = cast("BinaryIO", io.BufferedReader(_Utf8(plain, encoding)))
            yield plain
        except (zlib.error, lzma.LZMAError, UnicodeDecodeError) as error:
            raise EOFError(str(error)) from error
        except MemoryError as error:  # its header asks for gigabytes
            raise EOFError(f"unpacking its {compression} needs more memory than there is") from error


def _decompressed(raw: Any, compression: str) -> BinaryIO:
    if compression == "gzip":
        return cast("BinaryIO", gzip.GzipFile(fileobj=raw))
    if compression == "bzip2":
        return cast("BinaryIO", bz2.BZ2File(raw))
    if compression == "xz":
        return cast("BinaryIO", lzma.LZMAFile(raw))
    if compression == "zstd":
        import pyarrow

        stream: Any = cast("Any", pyarrow).CompressedInputStream(raw, "zstd")
        return cast("BinaryIO", io.BufferedReader(stream, _BLOCK_BYTES))
    return cast("BinaryIO", raw)


class _Utf8(io.RawIOBase):
    """Text in another encoding, as bytes of UTF-8."""

    def __init__(self, source: BinaryIO, encoding: str) -> None:
        super().__init__()
        self._source = source
        self._decode = codecs.getincrementaldecoder(encoding)().decode
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            block = self._source.read(_BLOCK_BYTES)
            self._left = self._decode(block, final=not block).encode()
            if not block:
                break
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count
