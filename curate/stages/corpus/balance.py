"""The stage that balances a corpus over languages or other groups, by leaving records out."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loguru import logger

from curate.corpus import Decisions, KeyGather, KeyTable
from curate.corpus.key_table import quoted
from curate.errors import PlanError
from curate.records import Record
from curate.stages.corpus.drawing import (
    MS_OF_AN_HOUR,
    check_columns,
    draw_number,
    group_label,
    known_audio_ms,
    value_label,
)

_MOST_NAMED = 20


@dataclass
class Balance(KeyGather):
    """Balances the hours of groups, such as languages, by leaving records out at random; it repeats none.

    The hours that a group keeps are in proportion to its hours to the power of 1 / temperature: at 1 they stay as they
    are, at 2 a language with 100 times the hours keeps 10 times as many, and at a very high temperature all keep the
    same. A group that has less than its share stays whole, and the others share what it leaves. Without `hours` the
    smallest group stays whole and all shares follow from it.

    A record without a duration is left out. The order stays that of the input.

    Args:
        by: the columns whose values make the groups: `[lang]`. A missing value is one like others.
        temperature: from 1 on.
        hours: the hours that are kept in total, at most; None: as many as leave all groups in proportion.
        caps: column → the most hours of each of its values, such as `{speaker: 2}`; they hold first. A missing value
            has no cap.
        seed: another seed leaves others out.
    """

    by: Sequence[str] = ()
    temperature: float = 2.0
    hours: float | None = None
    caps: Mapping[str, float] = field(default_factory=dict[str, float])
    seed: int = 0

    def check(self) -> None:
        super().check()
        check_columns("by", self.by, needed=not self.caps)
        if not 1 <= self.temperature < math.inf:
            raise PlanError(f"temperature={self.temperature!r:.80}: must be a number from 1 on")
        for name, hours in [("hours", self.hours), *((f"caps: {column}", most) for column, most in self.caps.items())]:
            if hours is not None and not 0 < hours < 1e9:
                raise PlanError(f"{name}={hours!r:.80}: must be above 0")

    def key_types(self) -> Mapping[str, str]:
        caps = {f"cap{number}": "VARCHAR" for number in range(len(self.caps))}
        return {"place": "BIGINT", "ms": "BIGINT", "part": "VARCHAR", **caps}

    def key_row(self, record: Record) -> Sequence[Any]:
        caps = (value_label(record.get(column)) for column in self.caps)
        return (draw_number(self.seed, record), known_audio_ms(record), group_label(record, self.by), *caps)

    def reads(self) -> Collection[str]:
        return tuple(dict.fromkeys((*self.by, *self.caps, "duration")))

    def writes(self) -> Collection[str]:
        return ()

    def decide(self, keys: KeyTable) -> Decisions:
        _save(keys, "capped0", "SELECT *, CASE WHEN ms IS NULL THEN 'no duration' END AS reject FROM keys")
        for number, (column, most) in enumerate(self.caps.items()):
            _save(keys, f"capped{number + 1}", self._capped(number, column, most))
        table = f"capped{len(self.caps)}"
        factor = self._factor(keys, table)
        self._report(keys, table, factor)
        return Decisions(
            f"""
            SELECT position, CASE WHEN reject IS NOT NULL THEN reject
                WHEN upto > quota THEN {_more_than("part", "round(quota / 3600000, 2)")} END AS reject
            FROM (
                SELECT position, reject, part, {self._quota(factor)} AS quota, sum(ms) FILTER (reject IS NULL) OVER (
                    PARTITION BY part ORDER BY place, position ROWS UNBOUNDED PRECEDING) AS upto
                FROM {table} JOIN ({_hours(table)}) USING (part)
            )
            """,
            rejects=True,
        )

    def _capped(self, number: int, column: str, most: float) -> str:
        name = f"'{column.replace(chr(39), chr(39) * 2)}=' || cap{number}"
        return f"""
            SELECT * EXCLUDE (reject, upto), CASE
                WHEN reject IS NOT NULL OR cap{number} IS NULL THEN reject
                WHEN upto > {round(most * MS_OF_AN_HOUR)} THEN {_more_than(name, f"{most:g}")} END AS reject
            FROM (
                SELECT *, sum(ms) FILTER (reject IS NULL) OVER (
                    PARTITION BY cap{number} ORDER BY place, position ROWS UNBOUNDED PRECEDING) AS upto
                FROM capped{number}
            )
        """

    def _quota(self, factor: float) -> str:
        if factor == math.inf:
            return "total"
        return f"least(total, floor({factor!r} * pow(total, {1 / self.temperature!r}) + 1e-6))"

    def _factor(self, keys: KeyTable, table: str) -> float:
        """Return the factor from the power of a group's hours to the hours that it keeps."""
        power = 1 / self.temperature
        smallest_first = f"SELECT total FROM ({_hours(table)}) WHERE total > 0 ORDER BY total, part"
        if self.hours is None:
            smallest = next(keys.rows(f"{smallest_first} LIMIT 1"), None)
            return 1.0 if smallest is None else float(smallest[0]) ** (1 - power)
        weight = math.fsum(float(total) ** power for (total,) in keys.rows(smallest_first))
        left = self.hours * MS_OF_AN_HOUR
        for (total,) in keys.rows(smallest_first):
            share = float(total) ** power
            # The smallest groups reach their share last: from the first one that does not, all are cut.
            if weight <= 0 or left / weight * share < float(total):
                break
            left, weight = left - float(total), weight - share
        return left / weight if weight > 0 else math.inf

    def _report(self, keys: KeyTable, table: str, factor: float) -> None:
        rows = f"SELECT part, total, {self._quota(factor)} FROM ({_hours(table)}) ORDER BY total DESC, part"
        for part, total, quota in keys.rows(f"{rows} LIMIT {_MOST_NAMED}"):
            kept, of = float(quota) / MS_OF_AN_HOUR, float(total) / MS_OF_AN_HOUR
            logger.info("{}: {} keeps {:.2f} of {:.2f} hours", self.name, part or "the input", kept, of)


def _save(keys: KeyTable, name: str, query: str) -> None:
    """Save the result of a query to a file, and make a view of it: a table in the database would fill its memory."""
    path = quoted(keys.scratch / f"{name}.parquet")
    keys.connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet, COMPRESSION lz4, ROW_GROUP_SIZE 32768)")
    keys.connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{path}')")


def _hours(table: str) -> str:
    return f"SELECT part, coalesce(sum(ms) FILTER (reject IS NULL), 0)::BIGINT AS total FROM {table} GROUP BY part"


def _more_than(name: str, hours: str) -> str:
    return f"{name} || CASE WHEN {name} = '' THEN '' ELSE ' ' END || 'has more than its ' || {hours} || ' hours'"
