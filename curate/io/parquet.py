"""Parquet: column order, schema and row groups depend on the records alone."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from loguru import logger

from curate.errors import InfrastructureError, RecordError
from curate.io.failpoints import failpoint
from curate.io.format import ManifestFormat, Row
from curate.io.plain_values import plain_row
from curate.records import ID, Record, RecordReader, take

_ROWS_A_GROUP = 16_384

MAX_STRUCT_FIELDS = 100
"""Objects with more different keys than this, such as one for each speaker, are written as JSON text."""

_SLICE_BYTES = 16 * 1024 * 1024
"""The approximate size of the rows that are converted to records together."""


def _count(path: Path) -> int | None:
    return cast("int", _footer(path).num_rows)


def _columns(path: Path) -> Collection[str] | None:
    return cast("list[str]", _footer(path).schema.to_arrow_schema().names)


def _footer(path: Path) -> Any:
    from pyarrow import parquet

    try:
        return cast("Any", parquet).read_metadata(path)
    except _arrow().ArrowException as error:
        raise EOFError(str(error)) from error


def read_parquet(path: Path, after: int, leave_out: Collection[str] = ()) -> Iterator[Row]:
    """Yield the rows after number `after`, without the columns in `leave_out`, which are not read."""
    from pyarrow import parquet

    arrow = _arrow()
    number = 0
    try:
        with cast("Any", parquet).ParquetFile(path) as file:
            names = cast("list[str]", file.schema_arrow.names)
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise InfrastructureError(
                    f"the manifest {path} has two columns {twice!r}; a record holds one of a name"
                )
            maps = [field.name for field in file.schema_arrow if arrow.types.is_map(field.type)]
            wanted = [name for name in names if name not in leave_out] if leave_out else None
            for batch in file.iter_batches(batch_size=4096, use_threads=False, columns=wanted):
                first, number = number, number + cast("int", batch.num_rows)
                if number <= after:
                    continue
                size = _slice_rows(batch, arrow)
                for start in range(0, batch.num_rows, size):
                    rows = rows_of(batch.slice(start, size))
                    for position, row in enumerate(rows, start=first + start + 1):
                        if position > after:
                            yield position, _with_maps(row, maps) if maps else row
    except arrow.ArrowException as error:
        raise EOFError(str(error)) from error


def _slice_rows(batch: Any, arrow: Any) -> int:
    """Return how many rows of a batch to convert together: each value of a dictionary counts as often as it occurs."""
    row_bytes = 1 + batch.nbytes // max(batch.num_rows, 1)
    for column in batch.columns:
        if arrow.types.is_dictionary(column.type) and len(column.dictionary):
            row_bytes += column.dictionary.nbytes // len(column.dictionary)
    return max(1, min(4096, _SLICE_BYTES // row_bytes))


def rows_of(batch: Any) -> list[Record | RecordError]:
    """Return the rows of a batch; a value that Python cannot hold (a string that is not UTF-8) costs its row."""
    arrow = _arrow()
    try:
        return list(map(plain_row, cast("list[Record]", batch.to_pylist())))
    except (arrow.ArrowException, ValueError, OverflowError):
        return [_row_of(batch.slice(at, 1), arrow) for at in range(batch.num_rows)]


def _with_maps(row: Record | RecordError, maps: list[str]) -> Record | RecordError:
    """Return a row with its empty maps as empty objects; they are read as empty lists."""
    if isinstance(row, dict):
        row.update((name, {}) for name in maps if row.get(name) == [])
    return row


def _row_of(batch: Any, arrow: Any) -> Record | RecordError:
    try:
        return plain_row(cast("list[Record]", batch.to_pylist())[0])
    except (arrow.ArrowException, ValueError, OverflowError) as error:
        return RecordError("bad_row", f"the row holds what no record may have: {error}")


def _write(records: RecordReader, file: BinaryIO) -> None:
    from pyarrow import parquet

    schema = schema_of(records)
    with cast("Any", parquet).ParquetWriter(file, schema, compression="zstd") as writer:
        for group in _groups(records):
            writer.write_table(table_of(group, schema), row_group_size=_ROWS_A_GROUP)
            failpoint("publish.during")


def _groups(records: Iterable[Record]) -> Iterator[list[Record]]:
    rows = iter(records)
    while group := take(rows, _ROWS_A_GROUP):
        for record in group:
            record.pop(ID, None)
        yield group


def schema_of(records: Iterable[Record]) -> Any:
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
    if _has_many_keys(values):
        return _json_text()
    try:
        found = _arrow().array(values).type
    except _misfits():
        return _json_text()
    return _json_text() if _has_empty_struct(found) else found


def _type_for_both(a: Any, b: Any) -> Any:
    arrow = _arrow()
    schemas = [arrow.schema([("value", a)]), arrow.schema([("value", b)])]
    try:
        both = arrow.unify_schemas(schemas, promote_options="permissive").field(0).type
    except _misfits():
        return _json_text()
    return _json_text() if _is_wide(both) else both


def _is_wide(kind: Any) -> bool:
    types = _arrow().types
    if types.is_struct(kind):
        return kind.num_fields > MAX_STRUCT_FIELDS or any(_is_wide(field.type) for field in kind)
    return types.is_list(kind) and _is_wide(kind.value_type)


def _fits(values: list[Any], kind: Any) -> bool:
    if kind == _json_text():
        return True
    try:
        _arrow().array(values, type=kind)
    except _misfits():
        return False
    return True


def _has_many_keys(values: Iterable[Any]) -> bool:
    """Return whether objects, at one place of a column, have more different keys than a struct should have fields."""
    keys: set[str] = set()
    inner: dict[str, list[Any]] = {}
    for value in values:
        if type(value) is dict:
            row = cast("dict[str, Any]", value)
            keys.update(row)
            if len(keys) > MAX_STRUCT_FIELDS:
                return True
            for name, each in row.items():
                if type(each) in (dict, list):
                    inner.setdefault(name, []).append(each)
        elif type(value) is list:
            inner.setdefault("", []).extend(each for each in cast("list[Any]", value) if type(each) in (dict, list))
    return any(_has_many_keys(each) for each in inner.values())


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
    """Return the exceptions for values that Arrow cannot hold: mixed types, too large numbers, lone surrogates."""
    return (_arrow().ArrowException, OverflowError, UnicodeEncodeError)


def _arrow() -> Any:
    import pyarrow

    return pyarrow  # as Any: it has no type stubs


def table_of(group: list[Record], schema: Any) -> Any:
    """Return records as a table of Arrow with the types of a schema from `schema_of`."""
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


PARQUET = ManifestFormat("parquet", (".parquet",), read_parquet, _count, _columns, _write)
"""Parquet, zstd-compressed."""
