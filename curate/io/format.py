"""What a format of manifests is: how its rows are read, and how records are written, in one value.

Every format is one module of this package, or of a plugin, that ends in a `ManifestFormat`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import attrs

from curate.errors import RecordError
from curate.records import Record, RecordReader

Row: TypeAlias = "tuple[int, Record | RecordError]"
"""A row's number, from 1, and its record, or the error of a row that is not a record."""


def not_counted(path: Path) -> int | None:
    """Return None: the number of rows is not known before all are read."""
    return None


def no_columns(path: Path) -> Collection[str] | None:
    """Declare nothing: the columns of a file are those of its first rows."""
    return None


def _check_suffixes(_: object, attribute: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    if not value or not all(suffix.startswith(".") and len(suffix) > 1 for suffix in value):
        raise ValueError(f"{attribute.name}={value!r}: at least one suffix, each with its dot")


@attrs.frozen
class WriteOptions:
    """How a file of records is written.

    Args:
        compression: of Parquet: `zstd`, `snappy`, `gzip` or `none`; None: the format's default.
        row_group_records: of Parquet: how many records a group of rows has; None: the format's default.
        planned_columns: the columns that the plan knows, for a file without records.
    """

    compression: str | None = None
    row_group_records: int | None = None
    planned_columns: Sequence[str] = ()


@attrs.frozen
class ManifestFormat:
    """A format of manifests.

    Args:
        name: what messages call it.
        suffixes: how file names of this format end, in lower case, such as `.jsonl.gz`; the longest match decides.
        read_rows: `read_rows(path, after)` yields the rows that come after number `after`. A row that is not a record
            is yielded as `RecordError`; an `OSError`, or an `EOFError` for a file that ends too early, stops the run.
            A resumed run reads again from the middle, so two calls must agree.
        count_rows: `count_rows(path)` returns about how many rows there are, for progress and estimates; None: unknown.
        columns: `columns(path)` returns the columns that a file declares; None: it declares none, and the first rows
            are looked at.
        write: `write(records, file)` writes all records; equal records must give equal bytes. None: the format is
            only read.
        write_with: `write_with(records, file, options)`, in its place, for a format with options.
        options: the options that the format has, by name.
        can_grow: whether a file may get more rows at its end without a change to what it held before (`--grown`).
    """

    name: str
    suffixes: tuple[str, ...] = attrs.field(converter=tuple[str, ...], validator=_check_suffixes)
    read_rows: Callable[[Path, int], Iterator[Row]]
    count_rows: Callable[[Path], int | None] = not_counted
    columns: Callable[[Path], Collection[str] | None] = no_columns
    write: Callable[[RecordReader, BinaryIO], None] | None = None
    write_with: Callable[[RecordReader, BinaryIO, WriteOptions], None] | None = None
    options: Collection[str] = ()
    can_grow: bool = False

    @property
    def is_writable(self) -> bool:
        """Whether records can be written in this format."""
        return self.write is not None or self.write_with is not None
