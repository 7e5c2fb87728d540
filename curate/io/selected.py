"""Records with the columns that a file is to have, and records divided by the values of some."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import attrs

from curate.errors import PlanError
from curate.io.rows import decode_row, encode_row, without_id
from curate.records import ID, Record, RecordReader

_MOST_FILES = 500


@attrs.frozen
class ChosenColumns:
    """Records with these columns alone, in this order; a missing one is null."""

    records: RecordReader
    columns: Sequence[str]

    def __iter__(self) -> Iterator[Record]:
        for record in self.records:
            yield {ID: record[ID], **{name: record.get(name) for name in self.columns}}

    def lines(self) -> Iterator[bytes]:
        return (without_id(encode_row(record)) for record in self)


@attrs.frozen
class StoredRecords:
    """Records in a file of JSON lines, with their ids."""

    path: Path

    def __iter__(self) -> Iterator[Record]:
        with self.path.open("rb") as file:
            yield from map(decode_row, file)

    def lines(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            yield from map(without_id, file)


def divide(records: RecordReader, value_of: Callable[[Record], str], folder: Path) -> Mapping[str, RecordReader]:
    """Write records to one file for each value, and return the files in the order of the values.

    Args:
        records: all records.
        value_of: returns the value that a record is filed by.
        folder: where the files are written; the caller removes it.

    Raises:
        PlanError: there are more than 500 values.
    """
    paths: dict[str, Path] = {}
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for record in records:
            value = value_of(record)
            if value not in paths:
                if len(paths) >= _MOST_FILES:
                    raise PlanError(f"more than {_MOST_FILES} files would be written, one for each value of the path")
                paths[value] = folder / f"{len(paths)}.jsonl"
                files[value] = stack.enter_context(paths[value].open("wb"))
            files[value].write(encode_row(record))
    return {value: StoredRecords(paths[value]) for value in sorted(paths)}
