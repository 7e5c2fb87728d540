"""Writes the files that a run publishes: column order, schema and row groups depend on the records alone."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

from loguru import logger

from curate.errors import InfrastructureError
from curate.io.failpoints import failpoint
from curate.records import ID, Record, RecordReader
from curate.storage import replacing

_ROWS_A_GROUP = 16_384
_LINES_AT_ONCE = 128


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
    failpoint("publish.before_write")
    with replacing(path, before_rename=partial(failpoint, "publish.after_temporary")) as file:
        write(records, file)
    failpoint("publish.after_rename")


def _write_jsonl(records: RecordReader, file: BinaryIO) -> None:
    lines = records.lines()
    while some := list(islice(lines, _LINES_AT_ONCE)):
        file.writelines(some)
        failpoint("publish.during")


def _write_gzip(records: RecordReader, file: BinaryIO) -> None:
    # without a time and a name in the header, so that equal records give equal bytes
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
        _write_jsonl(records, cast("BinaryIO", packed))


def _write_parquet(records: RecordReader, file: BinaryIO) -> None:
    from pyarrow import parquet

    schema = _schema(records)
    with cast("Any", parquet).ParquetWriter(file, schema, compression="zstd") as writer:
        for group in _groups(records):
            writer.write_table(_table(group, schema), row_group_size=_ROWS_A_GROUP)
            failpoint("publish.during")


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
    arrow = _arrow()
    types: dict[str, Any] = {}
    widened: set[str] = set()
    for group in _groups(records):
        for name in dict.fromkeys(name for record in group for name in record):
            found = _type_of([record.get(name) for record in group])
            known = types.get(name, found)
            types[name] = _type_for_both(known, found)
            if known not in (found, arrow.null()):
                widened.add(name)
    for group in _groups(records) if widened else ():  # a whole number may be too large for the float it must become
        for name in widened:
            if not _fits([record.get(name) for record in group], types[name]):
                types[name] = _json_text()
    for name, kind in types.items():
        if kind == _json_text():
            logger.warning("column {!r} holds values that share no Parquet type; it is written as JSON text", name)
    return arrow.schema(list(types.items()))


def _type_of(values: list[Any]) -> Any:
    """Return the type that holds all of these values; JSON text, if there is none."""
    try:
        found = _arrow().array(values).type
    except _misfits():
        return _json_text()
    return _json_text() if _has_empty_struct(found) else found


def _type_for_both(a: Any, b: Any) -> Any:
    arrow = _arrow()
    schemas = [arrow.schema([("value", a)]), arrow.schema([("value", b)])]
    try:
        return arrow.unify_schemas(schemas, promote_options="permissive").field(0).type
    except _misfits():
        return _json_text()


def _fits(values: list[Any], kind: Any) -> bool:
    if kind == _json_text():
        return True
    try:
        _arrow().array(values, type=kind)
    except _misfits():
        return False
    return True


def _has_empty_struct(kind: Any) -> bool:
    """Return whether a type has a struct without fields somewhere, which Parquet cannot hold."""
    types = _arrow().types
    if types.is_struct(kind):
        return kind.num_fields == 0 or any(_has_empty_struct(field.type) for field in kind)
    return types.is_list(kind) and _has_empty_struct(kind.value_type)


def _json_text() -> Any:
    # a large string is used for nothing else, so the type itself says that the values are JSON
    return _arrow().large_string()


def _misfits() -> tuple[type[Exception], ...]:
    """Return what is raised for values that Arrow cannot hold: mixed types, too large numbers, lone surrogates."""
    return (_arrow().ArrowException, OverflowError, UnicodeEncodeError)


def _arrow() -> Any:
    import pyarrow

    return pyarrow  # as Any: it has no type stubs


def _table(group: list[Record], schema: Any) -> Any:
    columns: list[Any] = []
    for field in schema:
        values = [record.get(field.name) for record in group]
        if field.type == _json_text():
            values = [None if value is None else _encoded(value) for value in values]
        columns.append(_arrow().array(values, type=field.type))
    return _arrow().table(columns, schema=schema)


def _encoded(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isascii() or _is_utf8(text) else json.dumps(value)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates, as in file names that are not UTF-8
        return False
    return True
