"""Parquet: column order, schema and row groups depend on the records alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from loguru import logger

from curate.errors import InfrastructureError, RecordError
from curate.io.failpoints import failpoint
from curate.io.format import ManifestFormat, Row, WriteOptions
from curate.io.parquet_bounds import (
    columns_perhaps_shared,
    columns_read_shared,
    rows_in_bounds,
    slices_in_bounds,
)
from curate.io.parquet_schema import parquet_source
from curate.io.plain_values import plain_row
from curate.records import ID, Record, RecordReader, take
from curate.storage import RemotePath

_ROWS_A_GROUP = 16_384

_CELLS_A_GROUP = 4 * 1024 * 1024
"""A group of rows has at most this many values, nulls included: it is in memory as a whole."""

MAX_STRUCT_FIELDS = 100
"""Objects with more different keys than this, such as one for each speaker, are written as JSON text."""

MAX_COLUMNS = 20_000
"""The maximum number of columns that are written: each costs the writer some kilobytes."""

_BUFFER_BYTES = 1024 * 1024
"""How much of a column is read from a local file together."""


def _count(path: Path) -> int | None:
    return cast("int", _footer(path).num_rows)


def _columns(path: Path) -> Collection[str] | None:
    return cast("list[str]", _footer(path).schema.to_arrow_schema().names)


def _footer(path: Path) -> Any:
    from pyarrow import parquet

    try:
        with parquet_source(path) as source:
            return cast("Any", parquet).read_metadata(source)
    except _arrow().ArrowException as error:
        raise EOFError(str(error)) from error


def read_parquet(path: Path, after: int, leave_out: Collection[str] = ()) -> Iterator[Row]:
    """Yield the rows after number `after`, without the columns in `leave_out`, which are not read.

    Raises:
        OSError: the file cannot be read.
        EOFError: it is not whole, or not Parquet.
        InfrastructureError: two of its columns have the same name.
    """
    from pyarrow import parquet

    arrow = _arrow()
    number = 0
    try:
        metadata = _footer(path)
        # a part of the file at a time: by default a column's whole part of a row group would be in memory
        options = {} if isinstance(path, RemotePath) else {"buffer_size": _BUFFER_BYTES}
        opened = partial(cast("Any", parquet).ParquetFile, metadata=metadata, **options)
        with ExitStack() as stack:
            source = stack.enter_context(parquet_source(path))
            file = stack.enter_context(opened(source))
            names = cast("list[str]", file.schema_arrow.names)
            twice = next((name for name, count in Counter(names).items() if count > 1), None)
            if twice is not None:
                raise InfrastructureError(
                    f"the manifest {path} has two columns {twice!r}; a record holds one of a name"
                )
            maps = [field.name for field in file.schema_arrow if arrow.types.is_map(field.type)]
            wanted = [name for name in names if name not in leave_out] if leave_out else None
            perhaps = [path for path in columns_perhaps_shared(metadata) if path.partition(".")[0] not in leave_out]
            probed = stack.enter_context(opened(source, read_dictionary=perhaps)) if perhaps else None
            shared: list[str] = []
            for index in range(metadata.num_row_groups):
                group = metadata.row_group(index)
                if number + group.num_rows <= after:
                    number += cast("int", group.num_rows)
                    continue
                more = columns_read_shared(probed, index, perhaps) if perhaps else ()
                if more:
                    shared.extend(more)
                    perhaps = [path for path in perhaps if path not in more]
                    file = stack.enter_context(opened(source, read_dictionary=shared))
                batches = file.iter_batches(
                    batch_size=rows_in_bounds(group), row_groups=[index], use_threads=False, columns=wanted
                )
                for batch in batches:
                    first, number = number, number + cast("int", batch.num_rows)
                    for position, row in enumerate(rows_of(batch) if number > after else (), start=first + 1):
                        if position > after:
                            yield position, _with_maps(row, maps) if maps else row
    except arrow.ArrowException as error:
        raise EOFError(str(error)) from error


def rows_of(batch: Any) -> Iterator[Record | RecordError]:
    """Yield the rows of a batch; a value that Python cannot hold (a string that is not UTF-8) costs its row."""
    for start, count in slices_in_bounds(batch):
        yield from _rows_of(_unshared(batch.slice(start, count)))


def _unshared(batch: Any) -> Any:
    """Return a batch whose strings are no longer shared by rows, which is much faster to convert."""
    arrow = _arrow()
    if not any(arrow.types.is_dictionary(column.type) for column in batch.columns):
        return batch
    columns = [
        column.dictionary_decode() if arrow.types.is_dictionary(column.type) else column for column in batch.columns
    ]
    return arrow.RecordBatch.from_arrays(columns, batch.schema.names)


def _rows_of(batch: Any) -> list[Record | RecordError]:
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


def _write(records: RecordReader, file: BinaryIO, options: WriteOptions) -> None:
    from pyarrow import parquet

    schema = schema_of(records)
    if not len(schema):
        schema = _planned(options.planned_columns)
    rows = options.row_group_records or max(1, min(_ROWS_A_GROUP, _CELLS_A_GROUP // max(1, len(schema))))
    with cast("Any", parquet).ParquetWriter(file, schema, compression=options.compression or "zstd") as writer:
        for group in _groups(records, rows):
            writer.write_table(table_of(group, schema), row_group_size=rows)
            failpoint("publish.during")


def _planned(columns: Sequence[str]) -> Any:
    """Return the schema of a file without rows; columns that nothing is known of are strings."""
    arrow = _arrow()
    numbers = {"duration": arrow.float64(), "offset": arrow.float64()}
    numbers |= {"sampling_rate": arrow.int64(), "channels": arrow.int64()}
    return arrow.schema([(name, numbers.get(name, arrow.string())) for name in columns])


def _groups(records: Iterable[Record], most: int = 0) -> Iterator[list[Record]]:
    rows = iter(records)
    while group := take(rows, most or _ROWS_A_GROUP):
        for record in group:
            record.pop(ID, None)
        yield group


def _by_column(group: list[Record]) -> dict[str, tuple[list[int], list[Any]]]:
    """Return the values of each column that a group has, and their rows: most columns of some data are nearly empty."""
    columns: dict[str, tuple[list[int], list[Any]]] = {}
    for row, record in enumerate(group):
        for name, value in record.items():
            at, values = columns.setdefault(name, ([], []))
            at.append(row)
            values.append(value)
    return columns if all(map(_is_utf8, columns)) else {_escaped(name): each for name, each in columns.items()}


def schema_of(records: Iterable[Record]) -> Any:
    """Return the columns in the order of their first appearance, each with a type that holds all its values.

    Raises:
        InfrastructureError: there are more than `MAX_COLUMNS`.
    """
    arrow = _arrow()
    types: dict[str, Any] = {}
    widened: set[str] = set()
    for group in _groups(records):
        for name, (_, values) in _by_column(group).items():
            found = _type_of(values)
            known = types.get(name, found)
            types[name] = _type_for_both(known, found)
            if known not in (found, arrow.null()):
                widened.add(name)
        if len(types) > MAX_COLUMNS:
            raise InfrastructureError(
                f"the records have {len(types):,} different columns so far, and a Parquet file has at most "
                f"{MAX_COLUMNS:,}: write .jsonl, or choose columns with `keep` at the reader"
            )
    for group in _groups(records) if widened else ():  # a whole number may be too large for the float it must become
        for name, (_, values) in _by_column(group).items():
            if name in widened and not _fits(values, types[name]):
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
    arrow = _arrow()
    found = _by_column(group)
    columns: list[Any] = []
    for field in schema:
        rows, values = found.get(field.name, ((), ()))
        if field.type == _json_text():
            values = [None if value is None else _encoded(value) for value in values]
        if len(values) == len(group):
            columns.append(arrow.array(values, type=field.type))
        elif not values:
            columns.append(arrow.nulls(len(group), type=field.type))
        else:
            places: list[int | None] = [None] * len(group)
            for place, row in enumerate(rows):
                places[row] = place
            columns.append(arrow.array(values, type=field.type).take(arrow.array(places, type=arrow.int32())))
    return arrow.table(columns, schema=schema)


def _encoded(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isascii() or _is_utf8(text) else json.dumps(value)


def _escaped(name: str) -> str:
    """Return a column's name with lone surrogates as escapes: Parquet has names in UTF-8 alone."""
    return name.encode(errors="backslashreplace").decode()


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates, as in file names that are not UTF-8
        return False
    return True


PARQUET = ManifestFormat(
    "parquet",
    (".parquet",),
    read_parquet,
    _count,
    _columns,
    write_with=_write,
    options=("compression", "row_group_records"),
)
"""Parquet, zstd-compressed."""
