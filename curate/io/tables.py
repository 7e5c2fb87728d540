"""Tables with a row of names: tab-separated, comma-separated and semicolon-separated values.

Comma-separated values may be quoted, as RFC 4180 has it. Tab-separated ones are not: a quotation mark is part of the
transcript, as in Common Voice. An empty cell is null. All cells are strings, except lengths of time and counts.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator
from typing import BinaryIO

from curate.errors import RecordError
from curate.io import jsonl
from curate.io.content import split_header
from curate.io.format import Row
from curate.io.skipped_lines import SkippedLines, pass_line
from curate.records import Record

NUMBERS = frozenset({"duration", "offset", "sampling_rate", "channels"})
"""The columns of a table whose cells are numbers; in another one they may be, as in the name of a speaker."""


def table_columns(file: BinaryIO, delimiter: str) -> Collection[str]:
    """Return the names in a table's first row."""
    return split_header(_text(file.readline(jsonl.MAX_LINE_BYTES)), delimiter)


def table_rows(file: BinaryIO, delimiter: str, after: int) -> Iterator[Row]:
    """Yield the rows of a table, each with the number of the line that it begins on; the names are on line 1.

    A row of more or fewer cells than there are names, or that is not UTF-8, costs itself.

    Raises:
        EOFError: a quotation mark is never closed.
    """
    names = list(table_columns(file, delimiter))
    numbers = [name for name in names if name in NUMBERS]
    rows = _unquoted(file, delimiter) if delimiter == "\t" else _quoted(file, delimiter)
    for number, cells in rows:
        if number <= after:
            continue
        if isinstance(cells, RecordError):
            yield number, cells
        elif len(cells) != len(names):
            yield number, RecordError("bad_row", f"the row has {len(cells)} cells, and the table {len(names)} columns")
        else:
            record: Record = {name: cell or None for name, cell in zip(names, cells, strict=True)}
            for name in numbers:
                record[name] = number_of(record[name])
            yield number, record


def number_of(cell: object) -> object:
    """Return a cell as a number; unchanged if it is none."""
    if not isinstance(cell, str):
        return cell
    try:
        return int(cell) if cell.strip().removeprefix("-").isdecimal() and len(cell) < 19 else float(cell)
    except ValueError:
        return cell


def _unquoted(file: BinaryIO, delimiter: str) -> Iterator[tuple[int, list[str] | RecordError]]:
    for number, line in _lines(file):
        if isinstance(line, RecordError):
            yield number, line
            continue
        yield number, line.rstrip("\r\n").split(delimiter)


def _quoted(file: BinaryIO, delimiter: str) -> Iterator[tuple[int, list[str] | RecordError]]:
    begins = 0
    errors: dict[int, RecordError] = {}

    def lines() -> Iterator[str]:
        nonlocal begins
        for number, line in _lines(file):
            begins = begins or number
            if isinstance(line, RecordError):
                errors[begins] = line
                yield "\n"
            else:
                yield line

    csv.field_size_limit(jsonl.MAX_LINE_BYTES)
    reader = csv.reader(_bounded(lines()), delimiter=delimiter, strict=False)
    try:
        for cells in reader:
            number, begins = begins, 0
            if number in errors:
                yield number, errors.pop(number)
            elif cells:
                yield number, cells
    except csv.Error as error:
        raise EOFError(f"the row at line {begins} does not end: {error}") from error


def _bounded(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines without the characters that end a `csv.reader`."""
    return (line.replace("\r\n", "\n").replace("\r", " ").replace("\0", "\ufffd") for line in lines)


def _lines(file: BinaryIO) -> Iterator[tuple[int, str | RecordError]]:
    number = 1  # the names
    skipped = SkippedLines(file)
    while line := file.readline(jsonl.MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > jsonl.MAX_LINE_BYTES and not line.endswith(b"\n"):
            pass_line(file, jsonl.MAX_LINE_BYTES)
            yield number, RecordError("line_too_long", f"the line is longer than {jsonl.MAX_LINE_BYTES} bytes")
        elif line.strip(b"\r\n \t"):
            try:
                yield number, line.decode()
            except UnicodeDecodeError as error:
                yield number, RecordError("bad_row", f"the line is not UTF-8: {error.reason} at byte {error.start}")
        else:
            first, number = number, number + skipped.newlines()
            skipped.add(first, number)


def _text(line: bytes) -> str:
    return line.decode(errors="replace").lstrip("\ufeff").rstrip("\r\n")
