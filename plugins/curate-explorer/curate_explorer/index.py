"""The index of a run or a manifest: a DuckDB file in a cache, with a row for every record and a column for each of its.

    source    what is looked at: a run or a manifest, with a key that changes when its rows do
    Index     its rows, as far as they have been read; readers may ask while a thread still adds to it

Record columns are stored as `c0`, `c1`, …, since DuckDB's names know no case; the table `columns` has their own names.
A column is an `integer`, a `number`, `text`, a `boolean`, or `json` (lists, mappings, and columns of several types).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import attrs

from curate_explorer.matches import Matches
from curate_explorer.source import Row, Source

# The light environment, in which types are checked, has no DuckDB, and pyarrow has no types.
duckdb: Any = import_module("duckdb")
pa: Any = import_module("pyarrow")

FORMAT: Final = 1
BATCH_ROWS: Final = 10_000
MEMORY_LIMIT_MB: Final = 256
SEARCHED_CHARACTERS: Final = 2_000
"""The characters of a row that the search looks at."""

BASE_COLUMNS: Final = ("row", "id", "outcome", "stage", "reason", "code", "search")
_TYPES: Final[Mapping[str, str]] = {
    "integer": "BIGINT",
    "number": "DOUBLE",
    "text": "VARCHAR",
    "boolean": "BOOLEAN",
    "json": "VARCHAR",
}
_EXACT: Final = 1 << 53


@attrs.frozen
class Column:
    """A column of the records.

    Args:
        name: as in the records.
        kind: `integer`, `number`, `text`, `boolean` or `json`.
        field: its name in the database.
    """

    name: str
    kind: str
    field: str

    @property
    def numeric(self) -> bool:
        return self.kind in ("integer", "number")


class Index:
    """The rows of a source, in a database file.

    Args:
        source: what is looked at.
        folder: the cache; the index of a source is made once in it, and again when the source has changed. While
            another process has it open, this one makes an index of its own, which ends with it.
        threads: of DuckDB.
    """

    def __init__(self, source: Source, folder: Path, *, threads: int = 2) -> None:
        self.source = source
        folder.mkdir(parents=True, exist_ok=True)
        key = hashlib.sha256(f"{FORMAT} {source.key}".encode()).hexdigest()[:32]
        self._own: tempfile.TemporaryDirectory[str] | None = None
        self._held = (folder / f"{key}.lock").open("wb")
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # by another explorer of the same rows, which may be making the index
            self._own = tempfile.TemporaryDirectory(prefix="own-", dir=folder)
            folder = Path(self._own.name)
        self._path = folder / f"{key}.duckdb"
        self._done_path = folder / f"{key}.done"
        self.is_complete = self._path.exists() and self._done_path.exists()
        if not self.is_complete:
            self._remove()
        self._config = {
            "memory_limit": f"{MEMORY_LIMIT_MB}MB",
            "threads": threads,
            "temp_directory": str(folder / "spilled"),
            "preserve_insertion_order": True,
            "autoinstall_known_extensions": False,  # opens no socket
            "autoload_known_extensions": False,
        }
        self._connection = duckdb.connect(str(self._path), config=self._config)
        self.matches = Matches(self._connection)
        self._lock = threading.Lock()
        self._columns: dict[str, Column] = {}
        self.rows = 0
        self.error = ""
        self._closing = threading.Event()
        if self.is_complete:
            found = self._connection.execute("SELECT name, kind, field FROM columns ORDER BY number").fetchall()
            self._columns = {name: Column(name, kind, field) for name, kind, field in found}
            [(self.rows,)] = self._connection.execute("SELECT count(*) FROM rows").fetchall()
        else:
            fields = ", ".join(f"{name} {'BIGINT' if name == 'row' else 'VARCHAR'}" for name in BASE_COLUMNS)
            self._connection.execute(f"CREATE TABLE rows ({fields})")
            self._connection.execute("CREATE TABLE columns (number BIGINT, name VARCHAR, kind VARCHAR, field VARCHAR)")

    @property
    def path(self) -> Path:
        """The database file."""
        return self._path

    @property
    def columns(self) -> Sequence[Column]:
        """The columns that have been seen so far."""
        return tuple(self._columns.values())

    def column(self, name: str) -> Column | None:
        """Return a column by its name in the records."""
        return self._columns.get(name)

    def build(self) -> None:
        """Read all rows of the source; a damaged source leaves what was read, and `error` has the cause."""
        if self.is_complete:
            return
        try:
            batch: list[Row] = []
            size = 200  # the first screen is not kept waiting for a whole batch
            for row in self.source.rows():
                batch.append(row)
                if len(batch) >= size:
                    self._add(batch)
                    batch, size = [], BATCH_ROWS
                    if self._closing.is_set():
                        return
            self._add(batch)
            self._finish()
        except Exception as error:  # noqa: BLE001 (the page shows it; the rows before are there)
            self.error = f"{type(error).__name__}: {error}"

    def _finish(self) -> None:
        with self._lock:
            rows = [(number, each.name, each.kind, each.field) for number, each in enumerate(self.columns)]
            if rows:
                self._connection.executemany("INSERT INTO columns VALUES (?, ?, ?, ?)", rows)
            self._connection.execute("CHECKPOINT")
        self._done_path.touch()
        self.is_complete = True

    def _add(self, batch: Sequence[Row]) -> None:
        if not batch:
            return
        names = dict.fromkeys(name for row in batch for name in row.record)
        fields: dict[str, Any] = {
            "row": pa.array(range(self.rows, self.rows + len(batch)), pa.int64()),
            "id": [row.id for row in batch],
            "outcome": [row.outcome for row in batch],
            "stage": [row.stage for row in batch],
            "reason": [row.reason for row in batch],
            "code": [row.code for row in batch],
            "search": [_searched(row) for row in batch],
        }
        arrays = {
            name: pa.array(values, pa.string()) if isinstance(values, list) else values
            for name, values in fields.items()
        }
        with self._lock:
            for name in names:
                values = [row.record.get(name) for row in batch]
                kind, array = _array(values)
                column = self._fit(name, kind)
                if column is None:  # nothing but nulls, of a column that is new
                    continue
                arrays[column.field] = _as_kind(values, array, kind, column.kind)
            table = pa.table(arrays)
            self._connection.register("batch", table)
            self._connection.execute("INSERT INTO rows BY NAME SELECT * FROM batch")
            self._connection.unregister("batch")
            self.rows += len(batch)

    def _fit(self, name: str, kind: str) -> Column | None:
        """Return the column for values of a kind; it is added, or takes a wider kind, where it must."""
        known = self._columns.get(name)
        if kind == "null":
            return known
        if known is None:
            column = Column(name, kind, f"c{len(self._columns)}")
            self._connection.execute(f"ALTER TABLE rows ADD COLUMN {column.field} {_TYPES[kind]}")
        elif kind == known.kind:
            return known
        else:
            numbers = {"integer", "number"} == {kind, known.kind}
            wider = "number" if numbers and self._is_exact(known) else "json"
            if wider == known.kind:
                return known
            column = Column(name, wider, known.field)
            if known.kind != "json":
                new = f"to_json({known.field})" if wider == "json" else known.field
                self._connection.execute(
                    f"ALTER TABLE rows ALTER COLUMN {known.field} SET DATA TYPE {_TYPES[wider]} USING {new}"
                )
        self._columns[name] = column
        return column

    def _is_exact(self, column: Column) -> bool:
        """Return whether the integers of a column are floats as well."""
        if column.kind != "integer":
            return True
        [(largest,)] = self._connection.execute(f"SELECT max(abs({column.field})) FROM rows").fetchall()
        return largest is None or largest < _EXACT

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query; any number of threads may ask."""
        with self._cursor() as cursor:
            return cursor.execute(sql, list(parameters)).fetchall()

    def arrays(self, sql: str, parameters: Sequence[Any] = ()) -> Mapping[str, Any]:
        """Return the columns of a query as NumPy arrays."""
        with self._cursor() as cursor:
            return cursor.execute(sql, list(parameters)).fetchnumpy()

    def batches(self, sql: str, parameters: Sequence[Any] = (), size: int = 50_000) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of a query as mappings, in batches."""
        with self._cursor() as cursor:
            found = cursor.execute(sql, list(parameters))
            names = [column[0] for column in found.description]
            while rows := found.fetchmany(size):
                yield [dict(zip(names, row, strict=True)) for row in rows]

    def _cursor(self) -> Any:
        # A cursor is a connection of its own, which sees the batches that are whole.
        return self._connection.cursor()

    def attach(self, other: Index) -> None:
        """Close another index, and let queries of this one read its table as `other.rows`."""
        other.detach()
        path = str(other.path).replace("'", "''")
        self._connection.execute(f"ATTACH '{path}' AS other (READ_ONLY)")

    def detach(self) -> None:
        """Stop reading the source, and close the database, which stays this process's until `close`."""
        self._closing.set()
        with self._lock:
            self._connection.close()

    def close(self) -> None:
        """Stop reading the source, and close the database; an index that is not complete is made anew next time."""
        self.detach()
        self._held.close()

    def _remove(self) -> None:
        for path in (self._done_path, self._path, self._path.with_name(self._path.name + ".wal")):
            with suppress(FileNotFoundError):
                path.unlink()


def _searched(row: Row) -> str:
    parts = [row.id, row.reason, *(value for value in row.record.values() if isinstance(value, str))]
    return "\n".join(part[:SEARCHED_CHARACTERS] for part in parts)[:SEARCHED_CHARACTERS].lower()


def _array(values: list[Any]) -> tuple[str, Any]:
    """Return the kind of a batch of values (`null` where all are), and the values as Arrow has them, or None."""
    try:
        array = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return "json", None
    if pa.types.is_null(array.type):
        return "null", array
    if pa.types.is_boolean(array.type):
        return "boolean", array
    if pa.types.is_integer(array.type):
        return "integer", array
    if pa.types.is_floating(array.type):
        # Arrow turns a mixture into floats only where every integer is one.
        return "number", array
    return ("text", array) if pa.types.is_string(array.type) else ("json", None)


def _as_kind(values: list[Any], array: Any, kind: str, wanted: str) -> Any:
    if wanted == "json":
        return pa.array([None if value is None else json.dumps(value, ensure_ascii=False) for value in values])
    if kind == "null":
        return pa.nulls(
            len(values), {"integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}.get(wanted, pa.string())
        )
    return array.cast(pa.float64()) if wanted == "number" else array
