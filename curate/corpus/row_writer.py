"""Writes rows to a Parquet file in bounded memory, for DuckDB to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

from curate.errors import InfrastructureError

TYPES = ("VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "BLOB", "VARCHAR[]")
"""The types that a column may have, by their names in SQL."""

ROWS_TOGETHER = 4096
"""The number of rows that are converted to Arrow together."""

ROW_GROUP = 32768
"""The number of rows in a row group: what is in memory while the file is written."""

GROUP_BYTES = 16 * 1024 * 1024
"""A row group ends early when it takes this many bytes."""


class RowWriter:
    """Writes rows to a Parquet file; a context manager.

    Args:
        path: the file, or one that is open for writing.
        types: column → its type, one of `TYPES`.
    """

    def __init__(self, path: Path | BinaryIO, types: Mapping[str, str]) -> None:
        arrow = _arrow()
        made = (
            arrow.string(),
            arrow.int64(),
            arrow.float64(),
            arrow.bool_(),
            arrow.binary(),
            arrow.list_(arrow.string()),
        )
        arrow_types: dict[str, Any] = dict(zip(TYPES, made, strict=True))
        self._schema = arrow.schema([(name, arrow_types[type_name]) for name, type_name in types.items()])
        self._file = _parquet().ParquetWriter(
            path, self._schema, compression="lz4", use_dictionary=False, write_statistics=False
        )
        self._rows: list[Sequence[Any]] = []
        self._group: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        try:
            self._write(last=True)
        finally:
            self._file.close()

    def append(self, row: Sequence[Any]) -> None:
        """Write a row; its second value names it in errors.

        Raises:
            InfrastructureError: a value is not of its column's type.
        """
        self._rows.append(row)
        if len(self._rows) >= ROWS_TOGETHER:
            self._write()

    def _write(self, *, last: bool = False) -> None:
        if self._rows:
            rows, self._rows = self._rows, []
            self._group.append(_record_batch(self._schema, rows))
        waiting_bytes = sum(batch.nbytes for batch in self._group)
        if self._group and (last or len(self._group) * ROWS_TOGETHER >= ROW_GROUP or waiting_bytes > GROUP_BYTES):
            group, self._group = self._group, []
            self._file.write_table(_arrow().Table.from_batches(group))


def _arrow() -> Any:
    import pyarrow

    return pyarrow  # as Any: it has no type stubs


def _parquet() -> Any:
    from pyarrow import parquet

    return parquet


def _record_batch(schema: Any, rows: Sequence[Sequence[Any]]) -> Any:
    arrow = _arrow()
    arrays: list[Any] = []
    for index, field in enumerate(schema):
        values = [row[index] for row in rows]
        try:
            arrays.append(arrow.array(values, field.type))
        except (arrow.ArrowException, UnicodeError, OverflowError):
            raise _misfit(field, values, rows) from None
    return arrow.record_batch(arrays, schema=schema)


def _misfit(field: Any, values: Sequence[Any], rows: Sequence[Sequence[Any]]) -> InfrastructureError:
    """Return the error that names the first value which is not of its column's type."""
    arrow = _arrow()
    for value, row in zip(values, rows, strict=True):
        try:
            arrow.array([value], field.type)
        except (arrow.ArrowException, UnicodeError, OverflowError) as error:
            return InfrastructureError(f"record {row[1]}: key {field.name!r} = {value!r:.80}: {error}")
    return InfrastructureError(f"key {field.name!r}: the values of {len(rows)} records are too large together")
