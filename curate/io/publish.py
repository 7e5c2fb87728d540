"""Writes the files that a run publishes: column order, schema and row groups depend on the records alone."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

from loguru import logger

from curate.errors import InfrastructureError
from curate.io.atomic import replacing
from curate.records import ID, Record, RecordReader

_ROWS_A_GROUP = 16_384


def publish(records: RecordReader, path: Path) -> None:
    """Write records to a file whose ending is one of `FORMATS`.

    Raises:
        InfrastructureError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InfrastructureError(f"cannot create {path.parent}: {error.strerror or error}") from error
    write = next(write for ending, write in FORMATS.items() if path.name.endswith(ending))
    with replacing(path) as file:
        write(records, file)


def _write_jsonl(records: RecordReader, file: BinaryIO) -> None:
    file.writelines(records.lines())


def _write_gzip(records: RecordReader, file: BinaryIO) -> None:
    # without a time and a name in the header, so that equal records give equal bytes
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
        packed.writelines(records.lines())


def _write_parquet(records: RecordReader, file: BinaryIO) -> None:
    from pyarrow import parquet

    schema = _schema(records)
    with cast("Any", parquet).ParquetWriter(file, schema, compression="zstd") as writer:
        for group in _groups(records):
            writer.write_table(_table(group, schema), row_group_size=_ROWS_A_GROUP)


FORMATS: Mapping[str, Callable[[RecordReader, BinaryIO], None]] = {
    ".jsonl": _write_jsonl,
    ".jsonl.gz": _write_gzip,
    ".parquet": _write_parquet,
}
"""Endings of file names, and what writes such a file."""


def _groups(records: RecordReader) -> Iterator[list[Record]]:
    rows = iter(records)
    while group := list(islice(rows, _ROWS_A_GROUP)):
        for record in group:
            record.pop(ID, None)
        yield group


def _schema(records: RecordReader) -> Any:
    """Return the columns in the order of their first appearance, each with a type that holds all its values."""
    import pyarrow

    arrow: Any = pyarrow
    types: dict[str, Any] = {}
    for group in _groups(records):
        for name in dict.fromkeys(name for record in group for name in record):
            values = [record.get(name) for record in group]
            try:
                found = arrow.array(values).type
                field = arrow.unify_schemas(
                    [arrow.schema([(name, types.get(name, found))]), arrow.schema([(name, found)])],
                    promote_options="permissive",
                )
                types[name] = field.field(0).type
            except (arrow.ArrowInvalid, arrow.ArrowTypeError):
                logger.warning("column {!r} holds values of several types; it is written as JSON text", name)
                types[name] = _json_text(arrow)
    return arrow.schema(list(types.items()))


def _json_text(arrow: Any) -> Any:
    # a large string is used for nothing else, so the type itself says that the values are JSON
    return arrow.large_string()


def _table(group: list[Record], schema: Any) -> Any:
    import pyarrow

    arrow: Any = pyarrow
    columns: list[Any] = []
    for field in schema:
        values = [record.get(field.name) for record in group]
        if field.type == _json_text(arrow):
            values = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
        columns.append(arrow.array(values, type=field.type))
    return arrow.table(columns, schema=schema)
