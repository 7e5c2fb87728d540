"""The keys of all records of a phase: written once to a Parquet file, read by queries of DuckDB."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from curate.corpus.database import open_database
from curate.corpus.row_writer import RowWriter
from curate.records import ID, Record

FETCHED_ROWS = 4096
"""The number of rows that are fetched from DuckDB together."""


class KeyTable:
    """The keys of all records, as the view `keys` of a database: `position`, `id`, and a column for each key.

    `position` counts the records from 0 in the order of the input; `id` is the `_id`. Close it after use.

    Args:
        scratch: a folder for temporary files.
        types: key → its type, one of `TYPES`.
        threads: of DuckDB; None: one for each CPU, at most 4.
    """

    def __init__(self, scratch: Path, types: Mapping[str, str], *, threads: int | None = None) -> None:
        self.scratch = scratch
        self.types = dict(types)
        self.connection: Any = open_database(scratch, threads=threads)
        self.count = 0
        """The number of records."""

    def fill(self, records: Iterable[Record], key_row: Callable[[Record], Sequence[Any]]) -> None:
        """Write the keys of all records.

        Args:
            records: in the order of the input.
            key_row: the keys of a record, in the order of the types.

        Raises:
            InfrastructureError: a value is not of its key's type, naming the key and the record.
        """
        path = self.scratch / "keys.parquet"
        with RowWriter(path, {"position": "BIGINT", "id": "VARCHAR", **self.types}) as file:
            for number, record in enumerate(records):
                file.append((number, record[ID], *key_row(record)))
                self.count = number + 1
        self.connection.execute(f"CREATE VIEW keys AS SELECT * FROM read_parquet('{quoted(path)}')")

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query, some thousand at a time; a query without ORDER BY has no order.

        The query is open until the last row; others may run on the connection meanwhile.
        """
        yield from read_rows(self.connection.cursor(), query, parameters)

    def batches(self, query: str, size: int) -> Iterator[Any]:
        """Yield the rows of a query as Arrow record batches of at most `size` rows."""
        with self.connection.cursor() as cursor:
            yield from cursor.sql(query).to_arrow_reader(size)

    def close(self) -> None:
        """Close the database."""
        self.connection.close()


def read_rows(cursor: Any, query: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query on a cursor of its own."""
    with cursor:
        cursor.execute(query, list(parameters))
        while rows := cursor.fetchmany(FETCHED_ROWS):
            yield from rows


def quoted(path: Path) -> str:
    """Return a path as it stands inside the quotes of an SQL string."""
    return str(path).replace("'", "''")
