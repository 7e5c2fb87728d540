"""The stage that joins a table to the records, or leaves out the records that a table lists."""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from loguru import logger

from curate.corpus import Decisions, KeyGather, KeyTable
from curate.corpus.database import open_database
from curate.corpus.key_table import quoted
from curate.corpus.key_table import read_rows as fetch_rows
from curate.corpus.row_writer import RowWriter
from curate.errors import InfrastructureError, PlanError, RecordError
from curate.io import Row, judge_content, read_rows
from curate.io.compression import open_plain
from curate.io.rows import decode_row, encode_row
from curate.io.tables import table_rows
from curate.plugin import CURATE, current_host
from curate.records import ID, Record
from curate.stage import Reject
from curate.stages.corpus.drawing import value_label
from curate.suggest import closest

_SAMPLED_ROWS = 1000
_CHECKED_EARLY_BYTES = 64_000_000
_JOINED = "_joined_row"


@dataclass
class JoinTable(KeyGather):
    """Joins a table to the records by the values of columns: metadata of speakers, ratings, a block list, takedowns.

    `how: left` keeps every record and adds the table's columns, null where it has no row for the record. `how: anti`
    leaves out the records that the table lists. The table may be in any format that `read_manifest` reads, or a list
    with the column's name on top (`.csv`, `.txt`), and larger than memory. Values are compared as strings, so that the
    7 of a table without types is the 7 of a record; null matches nothing. How many records have a row is logged; none
    at all is an error of `left`.

    A key that is in the table twice is an error, which names it: a join repeats no record. With `repeated: last` its
    last row counts, as in a log of labels to which corrections are appended. `anti` takes the same key any number of
    times.

    Args:
        table: the path of the table.
        keys: the columns that must be equal, of both; or record's column → table's column.
        how: `left` or `anti`.
        columns: the columns of the table that are added; empty: all but the keys. A record's own value is overwritten
            where the table has a row.
        repeated: what becomes of a key with several rows, of `left`: `error`, or `last`, which takes the last of them.
        reason: what the report says of records that `anti` leaves out; empty: `listed in <table>`.
    """

    table: str | Path
    keys: Sequence[str] | Mapping[str, str]
    how: str = "left"
    columns: Sequence[str] = ()
    repeated: str = "error"
    reason: str = ""

    def check(self) -> None:
        super().check()
        if self.how not in ("left", "anti"):
            raise PlanError(f"how={self.how!r:.80}: choose from left, anti")
        if self.repeated not in ("error", "last"):
            raise PlanError(f"repeated={self.repeated!r:.80}: choose from error, last")
        if isinstance(self.keys, str) or not self.keys:
            raise PlanError(f"keys={self.keys!r:.80}: must be a list of columns, or a mapping to those of the table")
        if isinstance(self.columns, str):
            raise PlanError(f"columns={self.columns!r:.80}: must be a list of columns")
        if self.columns and self.how == "anti":
            raise PlanError("columns: how='anti' adds none")
        found = self._found()
        for name in (*self._keys().values(), *self.columns):
            if name not in found:
                raise PlanError(f"{self.table} has no column {name!r}: {closest(name, sorted(found))}")
        if self._refuses_repeated() and self._path().stat().st_size <= _CHECKED_EARLY_BYTES:
            _check_unique(self._path(), tuple(self._keys().values()), *_state(self._path()))

    def fingerprint(self) -> Mapping[str, Any]:
        path = self._path()
        return {"table_sha256": _sha256(path, *_state(path))}

    def _refuses_repeated(self) -> bool:
        return self.how == "left" and self.repeated == "error"

    def _path(self) -> Path:
        path = Path(self.table)
        if not path.is_file():
            raise PlanError(f"table={str(self.table)!r} does not exist (looked from {Path.cwd()})")
        return path

    def _keys(self) -> dict[str, str]:
        return dict(self.keys) if isinstance(self.keys, Mapping) else dict(zip(self.keys, self.keys, strict=True))

    def _found(self) -> list[str]:
        return list(_columns_of(self._path(), *_state(self._path())))

    def _added(self) -> tuple[str, ...]:
        if self.how == "anti":
            return ()
        keys = set(self._keys().values())
        return tuple(self.columns or (name for name in self._found() if name not in keys and name != ID))

    def key_types(self) -> Mapping[str, str]:
        return {f"key{number}": "VARCHAR" for number in range(len(self._keys()))}

    def key_row(self, record: Record) -> Sequence[Any]:
        return [value_label(record.get(name)) for name in self._keys()]

    def reads(self) -> Collection[str]:
        return tuple(self._keys())

    def writes(self) -> Collection[str]:
        return self._added()

    def decide(self, keys: KeyTable) -> Decisions:
        names = tuple(self._keys().values())
        path = keys.scratch / "table.parquet"
        _write_table(self._path(), names, self._added(), path)
        if self._refuses_repeated():
            _refuse_repeated(keys.connection, path, names, self._path())
        equal = " AND ".join(f"keys.key{number} = found.key{number}" for number in range(len(names)))
        table = f"(SELECT * FROM read_parquet('{quoted(path)}'))"
        if self.how == "left" and self.repeated == "last":
            by = ", ".join(f"key{number}" for number in range(len(names)))
            table = f"(SELECT {by}, arg_max(line, number) AS line FROM {table} GROUP BY {by})"
        self._count(keys, table, equal)
        if self.how == "anti":
            reason = (self.reason or f"listed in {self.table}").replace("'", "''")
            return Decisions(
                f"SELECT position, '{reason}' AS reject FROM keys SEMI JOIN {table} found ON {equal}", rejects=True
            )
        return Decisions(
            f'SELECT position, found.line AS "{_JOINED}" FROM keys JOIN {table} found ON {equal}', columns=(_JOINED,)
        )

    def _count(self, keys: KeyTable, table: str, equal: str) -> None:
        [(matched,)] = keys.rows(f"SELECT count(*) FROM keys SEMI JOIN {table} found ON {equal}")
        logger.info("{}: {} of {} records have a row in {}", self.name, matched, keys.count, self.table)
        if keys.count and not matched:
            on = ", ".join(f"{one} = {other}" for one, other in self._keys().items())
            message = f"{self.table} has a row for none of {keys.count} records (by {on})"
            if self.how == "left":
                raise InfrastructureError(f"{message}; look at some values of these columns on both sides")
            logger.warning("{}: {}", self.name, message)

    def gather_again(self, records: Iterable[Record], scratch: Path) -> Iterator[Record | Reject]:
        added = self._added()
        for item in super().gather_again(records, scratch):
            if isinstance(item, dict) and added:
                line = item.pop(_JOINED, None)
                if line is not None:
                    item.update(zip(added, decode_row(line)["row"], strict=True))
                else:
                    for name in added:
                        item.setdefault(name, None)
            yield item


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_mtime_ns, state.st_size


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, mtime_ns: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=64)
def _columns_of(path: Path, mtime_ns: int, size: int) -> tuple[str, ...]:
    """Return the columns of a table's first rows, in the order in which they come."""
    names = {name: None for row in islice(_rows(path, PlanError), _SAMPLED_ROWS) for name in row}
    if not names:
        raise PlanError(f"{path} has no rows to join")
    return tuple(names)


def _rows(path: Path, error_type: type[PlanError | InfrastructureError]) -> Iterator[Record]:
    """Yield the rows of a table.

    Raises:
        PlanError, InfrastructureError: it cannot be read, or a row is not usable; a join must not miss any.
    """
    reference = current_host().format_of(path)
    format = None if reference is None or reference.distribution == CURATE else reference.load()
    try:
        for number, row in _single_column(path) or read_rows(path, after=0, format=format):
            if isinstance(row, RecordError):
                raise error_type(f"{path}, row {number}: {row}")
            yield row
    except (OSError, EOFError) as error:
        raise error_type(f"cannot read {path}: {error}") from error


def _single_column(path: Path) -> Iterator[Row] | None:
    """Return the rows of a table of one column, such as a block list: it has no separator by which to know it."""
    if not {".csv", ".tsv", ".txt"} & {suffix.lower() for suffix in path.suffixes}:
        return None
    found = judge_content(path)
    if found.form != "json lines" or found.encoding != "utf-8":
        return None
    with open_plain(path, found.compression) as file:
        if file.readline().lstrip().startswith(b"{"):
            return None

    def rows() -> Iterator[Row]:
        with open_plain(path, found.compression) as file:
            yield from table_rows(file, ",", 0)

    return rows()


def _write_table(path: Path, names: Sequence[str], added: Sequence[str], target: Path) -> None:
    """Write the keys of a table's rows, and the values that are added as one line of JSON each."""
    types = {f"key{number}": "VARCHAR" for number in range(len(names))}
    with RowWriter(target, {"number": "BIGINT", "shown": "VARCHAR", "line": "VARCHAR", **types}) as file:
        for number, row in enumerate(_rows(path, InfrastructureError), start=1):
            labels = [value_label(row.get(name)) for name in names]
            line = encode_row({ID: "", "row": [row.get(name) for name in added]}).decode() if added else None
            file.append((number, f"row {number}", line, *labels))


@functools.lru_cache(maxsize=64)
def _check_unique(path: Path, names: tuple[str, ...], mtime_ns: int, size: int) -> None:
    """Check a small table when the pipeline is planned, so that no work is done in vain."""
    with tempfile.TemporaryDirectory(prefix="curate-") as folder:
        target = Path(folder, "table.parquet")
        try:
            _write_table(path, names, (), target)
            with closing(open_database(Path(folder))) as connection:
                _refuse_repeated(connection, target, names, path)
        except InfrastructureError as error:
            raise PlanError(str(error)) from None


def _refuse_repeated(connection: Any, target: Path, names: Sequence[str], path: Path) -> None:
    keys = ", ".join(f"key{number}" for number in range(len(names)))
    known = " AND ".join(f"key{number} IS NOT NULL" for number in range(len(names)))
    query = (
        f"SELECT {keys}, count(*), min(number) AS first, max(number) FROM read_parquet('{quoted(target)}') "
        f"WHERE {known} GROUP BY {keys} HAVING count(*) > 1 ORDER BY first LIMIT 1"
    )
    for row in fetch_rows(connection.cursor(), query):
        *values, times, first, last = row
        pairs = zip(names, values, strict=True)
        key = ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in pairs)
        raise InfrastructureError(
            f"{path} has {times} rows for {key:.200} (rows {first} and {last}); a join needs one row for each key"
        )
