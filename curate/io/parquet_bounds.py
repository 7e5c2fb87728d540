"""How much of a Parquet file to decode and to convert together, so that a small file does not become gigabytes.

A value that occurs in all rows is stored once, and so are runs of equal values: a file of some kilobytes can hold
millions of rows of a megabyte each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

MOST_ROWS = 4096
"""The maximum number of rows that are decoded together."""

_BATCH_BYTES = 64 * 1024 * 1024
"""The approximate size of the rows that are decoded together."""

_SLICE_BYTES = 16 * 1024 * 1024
"""The approximate size of the rows that are converted to records together."""

_PROBED_ROWS = 32
"""How many rows of a row group are decoded to see its shared values."""

_VALUE_BYTES = 16
"""The size of a value that is not a string, and of the place of one that is."""

_DICTIONARIES = frozenset({"PLAIN_DICTIONARY", "RLE_DICTIONARY"})


def columns_perhaps_shared(metadata: Any) -> list[str]:
    """Return the columns whose values may be large and repeated, as far as the footer shows.

    Args:
        metadata: the footer of the file.
    """
    found: dict[str, None] = {}
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            if (
                column.physical_type == "BYTE_ARRAY"
                and column.path_in_schema not in found
                and column.total_uncompressed_size * min(MOST_ROWS, column.num_values) > _BATCH_BYTES
                and not _DICTIONARIES.isdisjoint(column.encodings)
            ):
                found[column.path_in_schema] = None
    return list(found)


def columns_read_shared(file: Any, index: int, columns: Sequence[str]) -> tuple[str, ...]:
    """Return those of some columns whose values must stay shared when they are decoded: large ones, or unknown ones.

    The others are decoded plainly, which takes half the time. Shared values are also kept until the file is closed, so
    that a column of different values would grow in memory.

    Args:
        file: the open file, which reads all these columns as shared.
        index: the number of the row group.
        columns: of `columns_perhaps_shared`.
    """
    group = file.metadata.row_group(index)
    found = {column.path_in_schema: column for column in map(group.column, range(group.num_columns))}
    names = list(dict.fromkeys(path.partition(".")[0] for path in columns))
    batches = file.iter_batches(batch_size=_PROBED_ROWS, row_groups=[index], columns=names, use_threads=False)
    batch = next(batches, None)
    largest = {} if batch is None else dict(zip(batch.schema.names, map(_largest_shared, batch.columns), strict=True))
    limit = _BATCH_BYTES // len(columns)
    return tuple(
        path
        for path in columns
        if (size := largest.get(path.partition(".")[0])) is None
        # a batch may have all the values that lists of the group hold
        or size * min(MOST_ROWS if path in largest else found[path].num_values, found[path].num_values) > limit
    )


def _largest_shared(array: Any) -> int | None:
    """Return the size of the largest string that a column shares, nested ones included; None: there is none."""
    import pyarrow
    from pyarrow import compute

    types, functions = cast("Any", pyarrow).types, cast("Any", compute)
    if types.is_dictionary(array.type):
        return functions.max(functions.binary_length(array.dictionary)).as_py()
    if not types.is_nested(array.type):
        return None
    if types.is_map(array.type):
        inner: list[Any] = [array.keys, array.items]
    else:
        inner = array.flatten() if types.is_struct(array.type) else [array.flatten()]
    sizes = [_largest_shared(each) for each in inner if types.is_dictionary(each.type) or types.is_nested(each.type)]
    return None if None in sizes else max(filter(None, sizes), default=None)


def rows_in_bounds(group: Any) -> int:
    """Return how many rows of a row group to decode together, by the sizes that its description declares."""
    size = 0
    for column in map(group.column, range(group.num_columns)):
        size += column.total_uncompressed_size + _VALUE_BYTES * column.num_values
    return max(1, min(MOST_ROWS, _BATCH_BYTES * max(1, group.num_rows) // max(1, size)))


def slices_in_bounds(batch: Any) -> Iterator[tuple[int, int]]:
    """Yield the parts of a batch, each its first row and its number of rows, that may be converted together."""
    sizes = _row_sizes(batch)
    if sizes is None:
        yield 0, batch.num_rows
        return
    start = held = 0
    for row, size in enumerate(sizes):
        if held and held + size > _SLICE_BYTES:
            yield start, row - start
            start, held = row, 0
        held += size
    yield start, batch.num_rows - start


def _row_sizes(batch: Any) -> list[int] | None:
    """Return the size of each row when no value is shared; None: all rows together are small."""
    import pyarrow
    from pyarrow import compute

    types, functions = cast("Any", pyarrow).types, cast("Any", compute)
    rows = batch.num_rows
    average = sum(_repeated_bytes(column) for column in batch.columns if types.is_nested(column.type)) + batch.nbytes
    total: Any = None
    for column in batch.columns:
        sizes = _sizes_of(column)
        if sizes is not None and (functions.max(sizes).as_py() or 0) * rows > _SLICE_BYTES:
            total = sizes if total is None else functions.add(total, sizes)
    if total is None:
        return None if average <= _SLICE_BYTES else [average // rows] * rows
    return cast("list[int]", functions.add(total, average // rows).to_pylist())


def _sizes_of(column: Any) -> Any:
    """Return the sizes of the strings in a column that shares equal ones; None: it does not."""
    import pyarrow
    from pyarrow import compute

    types, functions = cast("Any", pyarrow).types, cast("Any", compute)
    if not types.is_dictionary(column.type):
        return None
    kind = column.type.value_type
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind)):
        return None
    sizes = functions.binary_length(column.dictionary).cast("int64")
    return functions.fill_null(sizes.take(column.indices), 0)


def _repeated_bytes(array: Any) -> int:
    """Return the size of the shared strings in a column of lists and objects."""
    import pyarrow
    from pyarrow import compute

    types = cast("Any", pyarrow).types
    if types.is_struct(array.type):
        return sum(map(_repeated_bytes, array.flatten()))
    if types.is_map(array.type):
        return _repeated_bytes(array.keys) + _repeated_bytes(array.items)
    if types.is_list(array.type) or types.is_large_list(array.type):
        return _repeated_bytes(array.flatten())
    sizes = _sizes_of(array)
    return 0 if sizes is None else cast("Any", compute).sum(sizes).as_py() or 0
