"""The stage that draws a sample of the corpus."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loguru import logger

from curate.corpus import Decisions, KeyGather, KeyTable
from curate.errors import PlanError
from curate.records import Record
from curate.stages.corpus.drawing import MS_OF_AN_HOUR, check_columns, draw_number, group_label, known_audio_ms

_MOST_NAMED = 10


@dataclass
class Sample(KeyGather):
    """Draws records at random, up to a number of hours or of records; the others are filtered. The order stays.

    The same seed draws the same records. A larger sample contains the smaller one. With `hours`, a record without a
    duration is left out. Groups that have less than was asked for stay whole, and a warning names them.

    Args:
        hours: the most hours; of each group, if `by` is given.
        count: the most records; of each group, if `by` is given.
        by: the columns whose values make the groups: `[lang]`; empty: one group. A missing value is one like others.
        seed: another seed draws others.
    """

    hours: float | None = None
    count: int | None = None
    by: Sequence[str] = ()
    seed: int = 0

    def check(self) -> None:
        super().check()
        check_columns("by", self.by, needed=False)
        if (self.hours is None) == (self.count is None):
            raise PlanError("hours and count are two ways to say how much to draw: set one of them")
        if self.hours is not None and not 0 < self.hours < 1e9:
            raise PlanError(f"hours={self.hours!r:.80}: must be above 0")
        if self.count is not None and (isinstance(self.count, float) or self.count < 1):
            raise PlanError(f"count={self.count!r:.80}: must be a whole number from 1 on")

    def key_types(self) -> Mapping[str, str]:
        return {"place": "BIGINT", "amount": "BIGINT", "part": "VARCHAR"}

    def key_row(self, record: Record) -> Sequence[Any]:
        amount = 1 if self.hours is None else known_audio_ms(record)
        return (draw_number(self.seed, record), amount, group_label(record, self.by))

    def reads(self) -> Collection[str]:
        return (*self.by, *(() if self.hours is None else ("duration",)))

    def writes(self) -> Collection[str]:
        return ()

    def decide(self, keys: KeyTable) -> Decisions:
        most = self.count if self.hours is None else round(self.hours * MS_OF_AN_HOUR)
        self._warn(keys, int(most or 0))
        asked = f"{self.count} records" if self.hours is None else f"{self.hours:g} hours"
        return Decisions(
            f"""
            SELECT position,
                CASE WHEN amount IS NULL THEN 'no duration: it cannot be in a sample of hours'
                     WHEN upto > {most} THEN 'not among the {asked} drawn' || CASE WHEN part = '' THEN ''
                          ELSE ' of ' || part END
                END AS reject
            FROM (
                SELECT position, amount, part,
                    sum(amount) OVER (PARTITION BY part ORDER BY place, position ROWS UNBOUNDED PRECEDING) AS upto
                FROM keys
            )
            """,
            rejects=True,
        )

    def _warn(self, keys: KeyTable, most: int) -> None:
        groups = "SELECT part, coalesce(sum(amount), 0) AS total FROM keys GROUP BY part"
        short = f"SELECT part, total FROM ({groups}) WHERE total < {most} ORDER BY part LIMIT {_MOST_NAMED}"
        for part, total in keys.rows(short):
            found = f"{total} records" if self.hours is None else f"{total / MS_OF_AN_HOUR:.2f} hours"
            logger.warning("{}: {} has {}, less than was asked for", self.name, part or "the input", found)
