"""JSON Lines, plain and gzipped: one JSON object a line, as NeMo's manifests are.

Lines are split at `\\n` only, never at U+2028, and are bounded in length. A broken line costs one record; a file that
ends in the middle stops the run, because a short dataset must never look like a whole one.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import attrs

from curate.errors import RecordError
from curate.io.failpoints import failpoint
from curate.io.format import ManifestFormat, Row, not_counted
from curate.io.skipped_lines import SkippedLines, pass_line
from curate.records import Record, RecordReader
from curate.storage import RemotePath

MAX_LINE_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 100
"""How deeply the values of a record may be nested: what Python can read, it cannot always write or pickle."""

_COUNTED_BYTES = 256 * 1024 * 1024
"""At most this much of a manifest is read to count its rows, which takes about a tenth of a second."""

_COUNTED_REMOTELY_BYTES = 4 * 1024 * 1024
"""The same of a manifest behind a URL, which is read once more for it."""

_LINES_PER_WRITE = 128

_NESTED = frozenset({dict, list})

_BOM = b"\xef\xbb\xbf"


def _read(path: Path, after: int) -> Iterator[Row]:
    with path.open("rb") as file:
        yield from json_rows(file, after)


def _read_gzip(path: Path, after: int) -> Iterator[Row]:
    with path.open("rb") as raw:
        if not raw.peek(1):
            raise EOFError("it has no bytes, and even an empty gzip file has some")
        try:
            yield from json_rows(cast("BinaryIO", gzip.GzipFile(fileobj=raw)), after)
        except zlib.error as error:
            raise EOFError(str(error)) from error


def _count(path: Path) -> int | None:
    """Return the number of lines, blank ones too; of a large file, an estimate from its beginning."""
    most = _COUNTED_REMOTELY_BYTES if isinstance(path, RemotePath) else _COUNTED_BYTES
    with path.open("rb") as file:
        size, seen, newlines = path.stat().st_size, 0, 0
        last = b"\n"
        while seen < most and (block := file.read(1 << 20)):
            seen, newlines, last = seen + len(block), newlines + block.count(b"\n"), block[-1:]
        if seen == size:
            return newlines + (last != b"\n")
        return round(newlines * size / seen) if newlines else None


def json_rows(file: BinaryIO, after: int) -> Iterator[Row]:
    """Yield the lines of a file that come after number `after`, each with its number, as a record or an error."""
    number = 0
    skipped: SkippedLines | None = None
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            pass_line(file, MAX_LINE_BYTES)
            parsed = RecordError("line_too_long", f"the line is longer than {MAX_LINE_BYTES} bytes")
        elif number <= after:
            skipped = skipped or SkippedLines(file)
            skipped.add(number, number)
            continue
        else:
            line = line.removeprefix(_BOM) if number == 1 else line
            if line[:1] <= b" " and not line.strip():
                skipped = skipped or SkippedLines(file)
                first, number = number, number + skipped.newlines()
                skipped.add(first, number)
                continue
            parsed = parse_line(line)
        if number > after:
            yield number, parsed


def parse_line(line: bytes) -> Record | RecordError:
    """Return the JSON object on a line, or the error of a line that is none. NaN and infinities are not JSON."""
    try:
        text = line.decode()
        found: tuple[Record, int] = _scan(text, 0)
    except (ValueError, StopIteration, RecursionError):
        return _parse_carefully(line)
    record, end = found
    if text[end:] != "\n":
        return _parse_carefully(line)
    # Every key has a colon: with as many colons as the record has keys, none is repeated, and no value has keys.
    if type(record) is dict and text.count(":") == len(record) and "[" not in text:
        return record
    return _checked(record, text)


def _parse_carefully(line: bytes) -> Record | RecordError:
    """Return the JSON object on any line, also with blanks around it, or the error of a line that is none."""
    try:
        text = line.decode()
        return _checked(_decode(text), text)
    except UnicodeDecodeError as error:
        return RecordError("bad_json", f"the line is not UTF-8: {error.reason} at byte {error.start}")
    except RecursionError:
        return RecordError("bad_json", "the JSON is nested too deeply")
    except ValueError as error:  # also a number of more than 4300 digits
        if line.startswith(_BOM):  # where files with byte order marks were joined
            return parse_line(line.removeprefix(_BOM))
        return RecordError("bad_json", f"the line is not JSON: {error}")


def _checked(record: Record, text: str) -> Record | RecordError:
    """Return the value of a line of JSON, or its error if it is not an object, too deep, or has a key twice."""
    if type(record) is not dict:
        return RecordError("bad_json", f"the line is not a JSON object but a {type(record).__name__}")
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(record):
        return RecordError("bad_json", f"the JSON is nested more than {MAX_DEPTH} deep")
    # Only a line with as many keys as its objects have, spelt plainly, needs no second look.
    keys = text.count('":')
    if (keys != len(record) and keys != _count_keys(record)) or " :" in text or "\t:" in text or "\r:" in text:
        repeated = repeated_key(text)
        if repeated is not None:
            return RecordError("bad_json", f"the key {repeated[:80]!r} is repeated in an object")
    return record


def repeated_key(text: str) -> str | None:
    """Find a key that one of the objects in JSON has twice, of which one value would be lost; None: there is none."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        names: set[str] = set()
        for name, _ in pairs:
            if name in names:
                found.append(name)
            names.add(name)

    json.JSONDecoder(object_pairs_hook=look).decode(text)
    return found[0] if found else None


def _count_keys(value: Any) -> int:
    """Return the number of keys in an object and in all objects inside it."""
    count = 0
    inside: list[Any] = [value]
    while inside:
        each = inside.pop()
        items = each
        if isinstance(each, dict):
            count += len(cast("Record", each))
            items = cast("Record", each).values()
        inside.extend([item for item in items if type(item) in _NESTED])
    return count


def checked_value(value: Any) -> Record | RecordError:
    """Return a value of JSON as a record, or the error of a value that is none."""
    if not isinstance(value, dict):
        return RecordError("bad_json", f"the record is not a JSON object but a {type(value).__name__}")
    if _is_deep(value):
        return RecordError("bad_json", f"the JSON is nested more than {MAX_DEPTH} deep")
    return cast("Record", value)


def _is_deep(value: Any) -> bool:
    """Return whether a value is nested more than `MAX_DEPTH` deep; without recursion, which has a limit of its own."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for each in level:
            kind = cast("type[Any]", type(each))
            if kind is dict:
                inner.extend(item for item in each.values() if type(item) in _NESTED)
            elif kind is list:
                inner.extend(item for item in each if type(item) in _NESTED)
        if not inner:
            return False
        level = inner
    return True


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.40} is too large for a number")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


# made once: `json.loads` with options makes a decoder for every line
_decoder = json.JSONDecoder(parse_float=_finite_float, parse_constant=_refuse_constant)
_decode = _decoder.decode
_scan = cast("Any", _decoder).scan_once
decode_first = _decoder.raw_decode
"""Returns the value that begins at a position of a string, and where it ends."""


def _write(records: RecordReader, file: BinaryIO) -> None:
    lines = records.lines()
    for line in lines:
        file.write(line)
        file.writelines(islice(lines, _LINES_PER_WRITE - 1))  # one by one: a list of long lines would not be bounded
        failpoint("publish.during")


def _write_gzip(records: RecordReader, file: BinaryIO) -> None:
    # without a time and a name in the header, so that equal records give equal bytes
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
        _write(records, cast("BinaryIO", packed))


JSONL = ManifestFormat("jsonl", (".jsonl",), _read, _count, write=_write, can_grow=True)
"""One JSON object a line."""

NEMO_JSON = attrs.evolve(JSONL, name="json", suffixes=(".json",), write=None)
"""The same under the suffix that NeMo's manifests have; not written, because it promises one JSON value."""

JSONL_GZ = ManifestFormat("jsonl.gz", (".jsonl.gz",), _read_gzip, not_counted, write=_write_gzip)
"""JSON Lines, gzipped."""

GZ = attrs.evolve(JSONL_GZ, name="gz", suffixes=(".gz",), write=None)
"""The same under any other name that ends in `.gz`."""
