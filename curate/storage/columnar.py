"""Values of one row in Parquet and Arrow files: the bytes of a recording, without reading those of other row groups."""

from __future__ import annotations

import errno
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, cast

from curate.storage.file import StoredFile
from curate.storage.tar import TornArchiveError, packed_as

_HELD_BYTES = 64 * 2**20
"""At most this much of row groups is held, so that neighbours are read once."""

_ROWS_PER_READ = 16

_lock = threading.Lock()
_held: OrderedDict[object, list[bytes | None]] = OrderedDict()


class _OwnPosition(StoredFile):
    """A file with a position of its own: pyarrow seeks and then reads, and other threads read the same file.

    Args:
        whole: the file, which stays open.
    """

    def __init__(self, whole: StoredFile) -> None:
        super().__init__(whole.identity)
        self._whole = whole

    def pread(self, length: int, offset: int) -> bytes:
        return self._whole.pread(length, offset)


def read_value(file: StoredFile, head: bytes, member: str) -> bytes:
    """Return the bytes of the member `<column>/<row>`.

    Raises:
        FileNotFoundError: there is no such column or row, or it has no bytes.
        TornArchiveError: the file is broken.
        ValueError: the file is neither Parquet nor Arrow.
    """
    if not head.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")):
        raise ValueError(f"{file.identity.uri} is neither a tar nor Parquet nor Arrow{packed_as(head)}")
    column, _, number = member.rpartition("/")
    if not column or not number.isdecimal() or number.startswith("0"):
        raise FileNotFoundError(errno.ENOENT, f"{member!r:.200} is not <column>/<row>, with rows from 1")
    row = int(number) - 1
    first = row - row % _ROWS_PER_READ
    own = file.identity
    key = (own.uri, own.size, own.mtime_ns, own.tag, column, first)
    with _lock:
        rows = _held.get(key)
    if rows is None:
        rows = _read(file, head, column, first)
        _hold(key, rows)
    value = rows[row - first] if row - first < len(rows) else None
    if value is None:
        raise FileNotFoundError(
            errno.ENOENT,
            f"{own.uri} has no recording in column {column!r}, row {number}; "
            "write the set with its recordings embedded",
        )
    return value


def _hold(key: object, rows: list[bytes | None]) -> None:
    with _lock:
        _held[key] = rows
        while len(_held) > 1 and sum(len(value or b"") for some in _held.values() for value in some) > _HELD_BYTES:
            _held.popitem(last=False)


def _read(file: StoredFile, head: bytes, column: str, first: int) -> list[bytes | None]:
    import pyarrow

    arrow: Any = pyarrow
    try:
        if head.startswith(b"PAR1"):
            return _from_parquet(file, column, first)
        return _from_arrow(file, head, column, first)
    except arrow.ArrowException as error:
        raise TornArchiveError(f"{file.identity.uri} is broken: {error}") from error


def _from_parquet(file: StoredFile, column: str, first: int) -> list[bytes | None]:
    from pyarrow import parquet

    opened: Any = cast("Any", parquet).ParquetFile(_OwnPosition(file))
    metadata = opened.metadata
    before = 0
    if column not in opened.schema_arrow.names:
        return []
    for group in range(metadata.num_row_groups):
        rows = int(metadata.row_group(group).num_rows)
        if first < before + rows:
            found: list[bytes | None] = []
            leaf = f"{column}.bytes" if _has_leaf(metadata, f"{column}.bytes") else column
            batches = opened.iter_batches(
                batch_size=_ROWS_PER_READ,
                row_groups=range(group, metadata.num_row_groups),
                columns=[leaf],
                use_threads=False,
            )
            skip = first - before
            for batch in batches:
                if skip >= batch.num_rows:
                    skip -= batch.num_rows
                    continue
                found += _bytes_of(batch.column(0).slice(skip, _ROWS_PER_READ - len(found)))
                skip = 0
                if len(found) >= _ROWS_PER_READ:
                    break
            return found
        before += rows
    return []


def _has_leaf(metadata: Any, path: str) -> bool:
    schema = metadata.schema
    return any(schema.column(index).path == path for index in range(len(schema.names)))


def _from_arrow(file: StoredFile, head: bytes, column: str, first: int) -> list[bytes | None]:
    found: list[bytes | None] = []
    before = 0
    for batch in arrow_batches(file, head):
        skip = max(0, first - before)
        before += batch.num_rows
        if skip >= batch.num_rows:
            continue
        index = batch.schema.get_field_index(column)
        if index < 0:
            return []
        found += _bytes_of(batch.column(index).slice(skip if not found else 0, _ROWS_PER_READ - len(found)))
        first = before
        if len(found) >= _ROWS_PER_READ:
            break
    return found


def arrow_batches(file: StoredFile, head: bytes) -> Any:
    """Yield the record batches of an Arrow file or stream; of a local one, only what is used is read."""
    import pyarrow

    arrow: Any = pyarrow
    source: Any = _OwnPosition(file) if file.descriptor is None else arrow.memory_map(file.identity.uri)
    if head.startswith(b"ARROW1"):
        reader = arrow.ipc.open_file(source)
        yield from (reader.get_batch(index) for index in range(reader.num_record_batches))
    else:
        yield from arrow.ipc.open_stream(source)


def _bytes_of(column: Any) -> Sequence[bytes | None]:
    """Return the bytes in a column of recordings: binary, a struct with `bytes`, or a list of 8-bit numbers."""
    import pyarrow

    types: Any = cast("Any", pyarrow).types
    kind = column.type
    if types.is_struct(kind):
        names = [kind.field(index).name for index in range(kind.num_fields)]
        if "bytes" not in names:
            return [None] * len(column)
        column = column.field("bytes")  # null where the recording is
        kind = column.type
    if types.is_list(kind) or types.is_large_list(kind):
        return [None if value is None else bytes(number & 0xFF for number in value) for value in column.to_pylist()]
    values: list[Any] = column.to_pylist()
    return [value if isinstance(value, bytes) else None for value in values]
