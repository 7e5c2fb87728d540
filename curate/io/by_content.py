"""Reads a file of records by its content: JSON Lines, a JSON array, a table or Parquet, compressed or in UTF-16."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from curate.errors import PlanError
from curate.io.compression import open_plain
from curate.io.content import FileFormat, judge_content
from curate.io.format import Row
from curate.io.json_array import array_rows
from curate.io.jsonl import JSONL, json_rows
from curate.io.parquet import PARQUET, read_parquet
from curate.io.tables import table_columns, table_rows

_NEVER_EMPTY = (".parquet", ".gz", ".zst", ".bz2", ".xz")
"""Suffixes of files that have some bytes even without a record."""


def require_records(path: Path) -> FileFormat:
    """Return the format of a file of records.

    Raises:
        PlanError: something else than records.
        EOFError: nothing, although it is of a form that is never empty.
    """
    content = judge_content(path)
    if path.name.lower().endswith(_NEVER_EMPTY) and not path.stat().st_size:
        raise EOFError("it has no bytes, and even one without records has some")
    if content.form == "other" or (content.form == "parquet" and content.compression):
        described = content.described or "a compressed Parquet file"
        raise PlanError(f"{path} is {described}, not a manifest: {content.remedy or 'unpack it'}")
    return content


def read_by_content(path: Path, after: int, leave_out: Collection[str] = ()) -> Iterator[Row]:
    """Yield the rows after number `after`; of Parquet, without the columns in `leave_out`."""
    content = require_records(path)
    if content.form == "parquet":
        yield from read_parquet(path, after, leave_out)
        return
    with open_plain(path, content.compression, content.encoding) as file:
        if content.form == "table":
            yield from table_rows(file, content.delimiter, after)
        elif content.form == "json array":
            yield from array_rows(file, after)
        else:
            yield from json_rows(file, after)


def count_by_content(path: Path) -> int | None:
    """Return about how many rows a file has; None: unknown."""
    content = require_records(path)
    if content.form == "parquet":
        return PARQUET.count_rows(path)
    if content.compression or content.encoding != "utf-8" or content.form == "json array":
        return None
    lines = JSONL.count_rows(path)
    return lines if lines is None or content.form != "table" else max(0, lines - 1)


def columns_by_content(path: Path) -> Collection[str] | None:
    """Return the columns that a file declares; None: it declares none."""
    content = require_records(path)
    if content.form == "parquet":
        return PARQUET.columns(path)
    if content.form != "table":
        return None
    with open_plain(path, content.compression, content.encoding) as file:
        return table_columns(file, content.delimiter)


def can_grow(path: Path) -> bool:
    """Return whether bytes added to the end of a file only add records behind the last one."""
    content = require_records(path)
    return not content.compression and content.form in ("json lines", "table")
