"""The base of stages that decide about all records from a few keys of each, in bounded memory.

Three steps, in the driver. The first reads the records of the phase before and writes their keys to a file, with the
position of each. The second, `decide`, is a query over the keys. The third reads the records again and changes, rejects
or reorders them as decided. No record is in memory for longer than it takes to pass through.

Keys that cost more than looking them up belong into a stage in front of the gather, which makes them in workers; a
composite stage joins the two, and `dropped_keys` ends the keys' way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import attrs

from curate.corpus.database import check_duckdb
from curate.corpus.key_table import KeyTable, quoted
from curate.corpus.row_writer import RowWriter
from curate.io.rows import decode_row, encode_row
from curate.records import ID, Record
from curate.stage import Gather, Reject


@attrs.frozen
class Decisions:
    """What happens to the records: the result of a query.

    The query has a column `position`, each at most once; a record whose position it lacks passes unchanged. In addition
    it may have

    - `reject`: the reason for which the record is left out; null: it stays.
    - `rank`: the record's place in a new order (BIGINT or DOUBLE); equal ranks keep the order of the input.
    - further columns, which are written to the record under their names, also where it is left out.

    Args:
        query: SQL without ORDER BY, on the connection of the key table.
        columns: the columns that are written to the record.
        rejects: whether the query has the column `reject`.
        ordered: whether the query has the column `rank`, for every record that stays.
    """

    query: str
    columns: tuple[str, ...] = ()
    rejects: bool = False
    ordered: bool = False


class KeyGather(Gather):
    """A gather that decides from keys alone: define `key_types()` and `decide(keys)`.

    The same keys must give the same decisions: a query must not depend on the order of rows or on the number of
    threads (`first(x)` does, `arg_min(x, position)` does not).
    """

    def key_types(self) -> Mapping[str, str]:
        """Return the keys and their types in SQL: VARCHAR, BIGINT, DOUBLE, BOOLEAN, BLOB or VARCHAR[]."""
        raise NotImplementedError(f"{type(self).__name__} must define key_types()")

    def key_row(self, record: Record) -> Sequence[Any]:
        """Return the keys of a record, in the order of `key_types()`; by default its columns of these names.

        It runs in the driver for every record, so it must be quick. The record must not be changed.
        """
        return [record.get(name) for name in self._names]

    def decide(self, keys: KeyTable) -> Decisions:
        """Return the decisions, from queries over the view `keys` on `keys.connection`."""
        raise NotImplementedError(f"{type(self).__name__} must define decide(keys)")

    def dropped_keys(self) -> Collection[str]:
        """Return the columns that serve as keys only, and that no record has after this stage."""
        return ()

    def reads(self) -> Collection[str]:
        return tuple(self.key_types())

    def drops(self) -> Collection[str]:
        return self.dropped_keys()

    def check(self) -> None:
        check_duckdb()

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(self.key_types())

    def gather(self, records: Iterator[Record]) -> Iterator[Record | Reject]:
        """Gather records that are in memory, for use without an engine."""
        import tempfile

        with tempfile.TemporaryDirectory(prefix="curate-") as scratch:
            yield from self.gather_again(list(records), Path(scratch))

    def gather_again(self, records: Iterable[Record], scratch: Path) -> Iterator[Record | Reject]:
        with closing(KeyTable(scratch, self.key_types())) as keys:
            keys.fill(records, self._key_row_of())
            decisions = self.decide(keys)
            decided = self._decided(records, keys, decisions)
            yield from _in_order(decided, scratch, keys) if decisions.ordered else _unranked(decided)

    def _key_row_of(self) -> Callable[[Record], Sequence[Any]]:
        """Return `key_row`, without looking the names up for each record where it is not overridden."""
        if type(self).key_row is not KeyGather.key_row:
            return self.key_row
        names = self._names

        def columns(record: Record) -> Sequence[Any]:
            return [record.get(name) for name in names]

        return columns

    def _decided(
        self, records: Iterable[Record], keys: KeyTable, decisions: Decisions
    ) -> Iterator[tuple[Any, Record | Reject]]:
        """Yield the rank of each record, in the order of the input, and the record as it was decided."""
        ended, columns = frozenset(self.dropped_keys()), decisions.columns
        chosen = ["position", "reject" if decisions.rejects else "NULL", "rank" if decisions.ordered else "NULL"]
        selected = ", ".join([*chosen, *(f'"{name}"' for name in columns)])
        coming = keys.rows(f"SELECT {selected} FROM ({decisions.query}) ORDER BY position")
        decision = next(coming, None)
        for position, given in enumerate(records):
            record = {name: value for name, value in given.items() if name not in ended} if ended else given
            rank = None
            if decision is not None and decision[0] == position:
                _, reason, rank, *values = decision
                decision = next(coming, None)
                record.update(zip(columns, values, strict=True))
                if reason is not None:
                    yield None, Reject(record, cast("str", reason))
                    continue
            yield rank, record


def _unranked(decided: Iterator[tuple[Any, Record | Reject]]) -> Iterator[Record | Reject]:
    return (item for _, item in decided)


def _in_order(
    decided: Iterator[tuple[Any, Record | Reject]], scratch: Path, keys: KeyTable
) -> Iterator[Record | Reject]:
    """Yield the rejected records, and then the others by rank; until then their lines are in a file."""
    places = scratch / "places.parquet"
    types = {"number": "BIGINT", "id": "VARCHAR", "rank": "DOUBLE", "start": "BIGINT", "size": "BIGINT"}
    start = 0
    with (scratch / "lines.jsonl").open("w+b") as lines:
        with RowWriter(places, types) as file:
            for number, (rank, item) in enumerate(decided):
                if isinstance(item, Reject):
                    yield item
                    continue
                line = encode_row(item)
                lines.write(line)
                file.append((number, item[ID], None if rank is None else float(rank), start, len(line)))
                start += len(line)
        lines.flush()
        # Sorting the places alone needs little memory, however long the lines are; the system's cache of the file makes
        # reading line by line cheap.
        query = f"SELECT start, size FROM read_parquet('{quoted(places)}') ORDER BY rank NULLS LAST, number"
        for place, size in keys.rows(query):
            yield decode_row(os.pread(lines.fileno(), size, place))
