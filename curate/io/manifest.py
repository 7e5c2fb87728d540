"""Rows of manifests: JSONL (also gzipped) and Parquet, one at a time, with their place in the file.

Lines are split at `\\n` only, never at U+2028, and are bounded in length. A broken line is that row's trouble; a file
that ends in the middle (gzip, Parquet) is the run's, because a short dataset must never look like a whole one.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from curate.errors import InfrastructureError, RecordError
from curate.records import Record

MAX_LINE_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 100
"""How deeply the values of a record may be nested: what Python can read, it cannot always write or pickle."""

_COUNTED_BYTES = 256 * 1024 * 1024
"""So much of a manifest is read to count its rows, about a tenth of a second's work."""

Row: TypeAlias = "tuple[int, Record | RecordError]"
"""A row's number, from 1, and what it holds or what is wrong with it."""

_BOM = b"\xef\xbb\xbf"


def read_rows(path: Path, *, after: int = 0) -> Iterator[Row]:
    """Yield the rows of a `.jsonl`, `.json`, `.jsonl.gz` or `.parquet` manifest that come after number `after`.

    Blank lines are counted, but are no rows.

    Raises:
        InfrastructureError: the file cannot be read, or ends in the middle.
    """
    try:
        if path.suffix == ".parquet":
            yield from _parquet_rows(path, after)
            return
        with path.open("rb") as raw:
            if path.suffix == ".gz" and not raw.peek(1):
                raise EOFError("it has no bytes, and even an empty gzip file has some")
            file = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if path.suffix == ".gz" else raw
            yield from _json_rows(file, after)
    except (OSError, EOFError, zlib.error) as error:
        raise InfrastructureError(f"cannot read the manifest {path} to its end: {error}") from error


def count_rows(path: Path) -> int | None:
    """Return about how many rows a manifest has; None where it would have to be unpacked for that.

    The lines of a large file are estimated from its beginning, and blank lines count.

    Raises:
        InfrastructureError: the file cannot be read.
    """
    try:
        if path.suffix == ".parquet":
            from pyarrow import parquet

            return cast("int", cast("Any", parquet).read_metadata(path).num_rows)
        if path.suffix == ".gz":
            return None
        with path.open("rb") as file:
            size, seen, newlines = path.stat().st_size, 0, 0
            last = b"\n"
            while seen < _COUNTED_BYTES and (block := file.read(1 << 20)):
                seen, newlines, last = seen + len(block), newlines + block.count(b"\n"), block[-1:]
            if seen == size:
                return newlines + (last != b"\n")
            return round(newlines * size / seen) if newlines else None
    except OSError as error:
        raise InfrastructureError(f"cannot read the manifest {path}: {error}") from error


def _json_rows(file: BinaryIO, after: int) -> Iterator[Row]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            while not line.endswith(b"\n") and (line := file.readline(MAX_LINE_BYTES)):
                continue
            parsed = RecordError("line_too_long", f"the line is longer than {MAX_LINE_BYTES} bytes")
        elif number <= after:
            continue
        else:
            line = line.removeprefix(_BOM) if number == 1 else line
            if not line.strip():
                continue
            parsed = parse_line(line)
        if number > after:
            yield number, parsed


def parse_line(line: bytes) -> Record | RecordError:
    """Return the JSON object on a line, or what is wrong with it. NaN and infinities are no JSON."""
    try:
        value: Any = _decode(line.decode())
    except UnicodeDecodeError as error:
        return RecordError("bad_json", f"the line is not UTF-8: {error.reason} at byte {error.start}")
    except RecursionError:
        return RecordError("bad_json", "the JSON is nested too deeply")
    except ValueError as error:  # also a number of more than 4300 digits
        return RecordError("bad_json", f"the line is not JSON: {error}")
    if not isinstance(value, dict):
        return RecordError("bad_json", f"the line is not a JSON object but a {type(value).__name__}")
    if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        return RecordError("bad_json", f"the JSON is nested more than {MAX_DEPTH} deep")
    return cast("Record", value)


def _depth(value: Any) -> int:
    kind = cast("type[Any]", type(value))
    inner: list[Any] = list(value.values() if kind is dict else value if kind is list else ())
    return 1 + max(map(_depth, inner), default=0) if kind in (dict, list) else 0


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.40} is too large for a number")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


# made once: `json.loads` with options makes a decoder for every line
_decode = json.JSONDecoder(parse_float=_finite_float, parse_constant=_refuse_constant).decode


def _parquet_rows(path: Path, after: int) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    arrow: Any = pyarrow  # it has no type stubs
    number = 0
    try:
        with cast("Any", parquet).ParquetFile(path) as file:
            names = cast("list[str]", file.schema_arrow.names)
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise InfrastructureError(
                    f"the manifest {path} has two columns {twice!r}; a record holds one of a name"
                )
            for batch in file.iter_batches(batch_size=4096, use_threads=False):
                first, number = number, number + cast("int", batch.num_rows)
                if number <= after:
                    continue
                for position, row in enumerate(_rows_of(batch, arrow), start=first + 1):
                    if position > after:
                        yield position, row
    except arrow.ArrowException as error:
        raise InfrastructureError(f"cannot read the manifest {path} to its end: {error}") from error


def _rows_of(batch: Any, arrow: Any) -> list[Record | RecordError]:
    """Return the rows of a batch; a value that Python cannot hold, such as a text that is not UTF-8, costs its row."""
    try:
        return list(map(_checked, cast("list[Record]", batch.to_pylist())))
    except (arrow.ArrowException, ValueError, OverflowError):
        return [_row_of(batch.slice(at, 1), arrow) for at in range(batch.num_rows)]


def _row_of(batch: Any, arrow: Any) -> Record | RecordError:
    try:
        return _checked(cast("list[Record]", batch.to_pylist())[0])
    except (arrow.ArrowException, ValueError, OverflowError) as error:
        return RecordError("bad_row", f"the row holds what no record may have: {error}")


def _checked(row: Record) -> Record | RecordError:
    """Return a row of Parquet, if JSON can hold it as well."""
    for name, value in row.items():
        problem = _not_json(value)
        if problem:
            return RecordError("bad_row", f"column {name!r} holds {problem}, which no record may have")
    return row


def _not_json(value: Any) -> str:
    """Return what in a value is not JSON, and `""` if all of it is."""
    kind = cast("type[Any]", type(value))
    if value is None or kind is str or kind is int or kind is bool:
        return ""
    if kind is float:
        return "" if math.isfinite(value) else repr(value)
    if kind is dict or kind is list:
        inner: list[Any] = list(value.values() if kind is dict else value)
        return next(filter(None, (_not_json(item) for item in inner)), "")
    return f"a {kind.__name__}"
