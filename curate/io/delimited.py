"""Writes tables with a row of names: comma-separated values, quoted as RFC 4180 has it, and tab-separated ones.

They are read by their content, as `curate.io.tables` does. A cell is empty for null; lists and objects are JSON.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from loguru import logger

from curate.io.by_content import columns_by_content, count_by_content, read_by_content
from curate.io.failpoints import failpoint
from curate.io.format import ManifestFormat, Row, WriteOptions
from curate.io.rows import encode_text
from curate.records import ID, Record, RecordReader

_ROWS_PER_WRITE = 128


def _read(path: Path, after: int) -> Iterator[Row]:
    yield from read_by_content(path, after)


def _columns(path: Path) -> Collection[str] | None:
    return columns_by_content(path)


def columns_of(records: RecordReader, options: WriteOptions) -> list[str]:
    """Return all columns of records in the order of their first appearance; of no records, those of the plan."""
    names: dict[str, None] = {}
    for record in records:
        names.update(dict.fromkeys(record))
    names.pop(ID, None)
    return list(names) or list(options.planned_columns)


def _write_csv(records: RecordReader, file: BinaryIO, options: WriteOptions) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")

    def encoded(cells: list[str]) -> str:
        text.seek(0)
        text.truncate()
        writer.writerow(cells)
        return text.getvalue()

    _write(records, file, options, encoded)


def _write_tsv(records: RecordReader, file: BinaryIO, options: WriteOptions) -> None:
    """Write cells without quotation marks, as a table of this kind is read; tabs and line ends become spaces."""
    changed = 0

    def encoded(cells: list[str]) -> str:
        nonlocal changed
        plain = [cell if _fits(cell) else " ".join(cell.splitlines()).replace("\t", " ") for cell in cells]
        changed += plain != cells
        return "\t".join(plain) + "\n"

    _write(records, file, options, encoded)
    if changed:
        logger.warning("{:,} rows had tabs or line ends, which are spaces now; CSV would keep them", changed)


def _fits(cell: str) -> bool:
    return "\t" not in cell and "\n" not in cell and "\r" not in cell


def _write(records: RecordReader, file: BinaryIO, options: WriteOptions, encoded: Callable[[list[str]], str]) -> None:
    names = columns_of(records, options)
    if names:
        file.write(encode_text(encoded(names)))
    for number, record in enumerate(records, start=1):
        file.write(encode_text(encoded([_cell(record, name) for name in names])))
        if number % _ROWS_PER_WRITE == 0:
            failpoint("publish.during")
    failpoint("publish.during")


def _cell(record: Record, name: str) -> str:
    value: Any = record.get(name)
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _format(name: str, write: Callable[[RecordReader, BinaryIO, WriteOptions], None]) -> ManifestFormat:
    return ManifestFormat(name, (f".{name}",), _read, count_by_content, _columns, write_with=write, can_grow=True)


CSV = _format("csv", _write_csv)
"""Comma-separated values."""

TSV = _format("tsv", _write_tsv)
"""Tab-separated values."""
