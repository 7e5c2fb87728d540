"""Rows that a costly condition has chosen, kept while the page asks about them: a table of row numbers for each.

A search, a polygon and an expression that SQL cannot say are evaluated once; the table, the facets and the plot then
join with the result. The tables are in memory, and only the last few are kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from importlib import import_module
from typing import Any, Final

pa: Any = import_module("pyarrow")

KEPT: Final = 6


class Matches:
    """The tables of matches of a database.

    Args:
        connection: of the database; a schema in memory is attached to it.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._connection.execute("ATTACH ':memory:' AS matches")
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, str] = OrderedDict()
        self._made = 0

    def selected(self, key: Hashable, sql: str, values: Sequence[Any]) -> str:
        """Return the condition of the rows that a query selects.

        Args:
            key: the same for the same rows.
            sql: selects their column `row`.
            values: its parameters.
        """
        return self._condition(
            key, lambda cursor, table: cursor.execute(f"CREATE TABLE {table} AS {sql}", list(values))
        )

    def listed(self, key: Hashable, rows: Callable[[], Any]) -> str:
        """Return the condition of listed rows.

        Args:
            key: the same for the same rows.
            rows: makes their numbers, an array or a list.
        """

        def fill(cursor: Any, table: str) -> None:
            cursor.register("listed", pa.table({"row": pa.array(rows(), pa.int64())}))
            cursor.execute(f"CREATE TABLE {table} AS SELECT row FROM listed")
            cursor.unregister("listed")

        return self._condition(key, fill)

    def _condition(self, key: Hashable, fill: Callable[[Any, str], Any]) -> str:
        with self._lock:  # requests that come at the same time ask about the same rows: one evaluates, all use it
            table = self._kept.pop(key, None)
            if table is None:
                self._made += 1
                table = f"matches.m{self._made}"
                with self._connection.cursor() as cursor:
                    fill(cursor, table)
            self._kept[key] = table
            while len(self._kept) > KEPT:
                _, oldest = self._kept.popitem(last=False)
                self._connection.execute(f"DROP TABLE IF EXISTS {oldest}")
        return f"row IN (SELECT row FROM {table})"
