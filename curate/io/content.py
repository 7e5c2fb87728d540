"""Judges what a file of records is by its first bytes: compression, encoding, and form. Suffixes are often wrong.

A file that holds no records is described for the message that refuses it, with the stage or the command that reads it.
"""

from __future__ import annotations

import codecs
import csv
import json
from pathlib import Path

import attrs

from curate.io.compression import compression_of, open_plain

HEAD_BYTES = 65_536
"""How much of a file is looked at, after decompression."""

_DELIMITERS = "\t,;"

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))

_READ_FOLDER = "read_folder reads the folder that it lies in"
_READ_HF = "read_hf reads the folder that it lies in"
_UNPACK = "unpack it, and read its files"
_NOT_RECORDS = "it holds no records"

_MAGIC: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"RIFF", "a recording (RIFF)", _READ_FOLDER),
    (0, b"RF64", "a recording (RF64)", _READ_FOLDER),
    (0, b"FORM", "a recording (AIFF)", _READ_FOLDER),
    (0, b"fLaC", "a recording (FLAC)", _READ_FOLDER),
    (0, b"OggS", "a recording (Ogg)", _READ_FOLDER),
    (0, b"ID3", "a recording (MP3)", _READ_FOLDER),
    (0, b"\xff\xfb", "a recording (MP3)", _READ_FOLDER),
    (0, b"\xff\xf3", "a recording (MP3)", _READ_FOLDER),
    (0, b"NIST_1A", "a recording (NIST SPHERE)", _READ_FOLDER),
    (0, b"\x1aE\xdf\xa3", "a recording or a video (Matroska)", _READ_FOLDER),
    (4, b"ftyp", "a recording or a video (MP4)", _READ_FOLDER),
    (0, b"ARROW1", "an Arrow file", _READ_HF),
    (0, b"\xff\xff\xff\xff", "an Arrow stream", _READ_HF),
    (257, b"ustar", "a tar", "read_webdataset reads it, or read_nemo_tarred together with its manifest"),
    (0, b"PK\x03\x04", "a zip archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!", "a RAR archive", _UNPACK),
    (0, b"SQLite format 3", "an SQLite database", "export the table as CSV"),
    (0, b"%PDF", "a PDF document", _NOT_RECORDS),
    (0, b"\x89PNG", "a PNG picture", _NOT_RECORDS),
    (0, b"\xff\xd8\xff", "a JPEG picture", _NOT_RECORDS),
    (0, b"\x7fELF", "a program", _NOT_RECORDS),
    (0, b"\x93NUMPY", "a NumPy array", _NOT_RECORDS),
    (0, b"\x80\x02", "a Python pickle", "save the records as JSON Lines"),
    (0, b"\x80\x04", "a Python pickle", "save the records as JSON Lines"),
    (0, b"version https://git-lfs", "a Git LFS pointer", "run `git lfs pull` where it was checked out"),
)
"""Where a magic number lies, what it is, what the file then is, and what to do."""


@attrs.frozen
class FileFormat:
    """What a file holds.

    Args:
        form: `json lines`, `json array`, `table`, `parquet`, or `other`.
        compression: `gzip`, `zstd`, `bzip2`, `xz`; empty for none.
        encoding: `utf-8`, `utf-16-le` or `utf-16-be`.
        delimiter: of a table.
        described: of `other`, what it is, with its article.
        remedy: of `other`, what reads it.
    """

    form: str
    compression: str = ""
    encoding: str = "utf-8"
    delimiter: str = ""
    described: str = ""
    remedy: str = ""


def judge_content(path: Path) -> FileFormat:
    """Return the format of a file, by its first bytes.

    Raises:
        OSError: it cannot be read.
        EOFError: it is compressed, and ends in the middle of its first bytes.
    """
    with path.open("rb") as file:
        raw = file.read(HEAD_BYTES)
    compression = compression_of(raw)
    if compression:
        with open_plain(path, compression) as plain:
            head = plain.read(HEAD_BYTES)
    else:
        head = raw
    return attrs.evolve(_judge(head, is_whole=len(head) < HEAD_BYTES), compression=compression)


def _judge(head: bytes, *, is_whole: bool) -> FileFormat:
    if head.startswith(b"PAR1"):
        return FileFormat("parquet")
    for offset, magic, described, remedy in _MAGIC:
        if head[offset : offset + len(magic)] == magic and _is_not_text(head, magic):
            return FileFormat("other", described=described, remedy=remedy)
    encoding = _encoding_of(head)
    whole = _decoded(head, encoding).lstrip("\ufeff")
    text = whole.lstrip()
    if text.startswith("{"):
        return _judge_object(text, encoding, is_whole=is_whole)
    if text.startswith("[") and text[1:].lstrip()[:1] in ("{", "]", ""):
        return FileFormat("json array", encoding=encoding)
    if text.startswith("<"):
        return FileFormat("other", described="HTML or XML", remedy="perhaps the error page of a download")
    delimiter = _delimiter_of(whole)
    return FileFormat("table" if delimiter else "json lines", encoding=encoding, delimiter=delimiter)


def _is_not_text(head: bytes, magic: bytes) -> bool:
    """Return whether a magic number is more than the first letters of words, such as of a column `FORM` or `ID3`."""
    return not magic.isalnum() or b"\0" in head[:1024] or magic in (b"fLaC", b"OggS")


def _judge_object(text: str, encoding: str, *, is_whole: bool) -> FileFormat:
    """Distinguish JSON Lines from one object that is spread over several lines."""
    line, _, rest = text.partition("\n")
    if rest.strip() and line.strip() in ("{", "{}"):
        try:
            json.JSONDecoder(strict=False).raw_decode(text)
            is_object = True
        except ValueError:  # it is longer than what was looked at, or broken
            is_object = line.strip() == "{" and not is_whole
        if is_object and line.strip() == "{":
            return FileFormat(
                "other",
                encoding=encoding,
                described="one JSON object over several lines",
                remedy="read_manifest reads a JSON array of records, or one JSON object a line",
            )
    return FileFormat("json lines", encoding=encoding)


def _encoding_of(head: bytes) -> str:
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name
    some = head[:256]
    if len(some) >= 8 and some[1::2].count(0) * 2 > len(some[1::2]) and not some[::2].count(0):
        return "utf-16-le"
    if len(some) >= 8 and some[::2].count(0) * 2 > len(some[::2]) and not some[1::2].count(0):
        return "utf-16-be"
    return "utf-8"


def _decoded(head: bytes, encoding: str) -> str:
    return codecs.getincrementaldecoder(encoding)("replace").decode(head)


def _delimiter_of(text: str) -> str:
    """Return the delimiter of a table whose first row names its columns; empty if it is not such a table."""
    first, _, rest = text.partition("\n")
    first = first.removesuffix("\r")
    for delimiter in _DELIMITERS:
        if delimiter in first and first.replace("\t", "").isprintable():
            names = split_header(first, delimiter)
            following = rest.partition("\n")[0]
            if _are_names(names) and (not following.strip() or delimiter in following):
                return delimiter
            return ""
    return ""


def split_header(line: str, delimiter: str) -> list[str]:
    """Return the names in the first row of a table, without the blanks around them."""
    if delimiter == "\t":
        return [name.strip() for name in line.split("\t")]
    if len(line) > csv.field_size_limit():  # the limit is one of the process, and no field is longer than its line
        csv.field_size_limit(len(line))
    return [name.strip() for name in next(csv.reader([line], delimiter=delimiter), list[str]())]


def _are_names(names: list[str]) -> bool:
    """Return whether the cells of a first row name columns: words, each once, and no data."""
    return len(names) > 1 and len(set(names)) == len(names) and all(map(_is_name, names))


def _is_name(cell: str) -> bool:
    begins = cell[:1].isalpha() or cell[:1] in "_#@"
    return begins and len(cell) <= 80 and not set(cell) & set('{}[]"\0\x7f\ufffd')
