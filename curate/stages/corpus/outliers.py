"""The stage that marks outliers of a measure, such as the speaking rate, within groups."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.corpus import Decisions, KeyGather, KeyTable
from curate.errors import PlanError
from curate.records import Record
from curate.stages.corpus.drawing import check_columns, group_label


@dataclass
class RateOutliers(KeyGather):
    """Marks records whose rate is far from that of the others, below Q1 - 1.5 IQR or above Q3 + 1.5 IQR (Tukey).

    Transcripts of other audio and wrong durations stand out within a language or a speaker where limits for all
    languages let them pass. The column `rate_outlier` is True or False, and null where the record has no rate or its
    group has too few. The quartiles are exact, by linear interpolation.

    Args:
        column: the column with the measure, as `text_rates` writes it; any other number will do.
        by: the columns whose values make the groups: `[lang]` or `[speaker]`; empty: all records are one group.
        outlier_key: the column that is written.
        factor: the interquartile ranges beyond the quartiles from which a value is an outlier.
        min_records: the fewest values of a group that are judged.
    """

    column: str = "chars_per_s"
    by: Sequence[str] = ()
    outlier_key: str = "rate_outlier"
    factor: float = 1.5
    min_records: int = 20

    def check(self) -> None:
        super().check()
        check_columns("by", self.by, needed=False)
        if not 0 <= self.factor < math.inf:
            raise PlanError(f"factor={self.factor!r:.80}: must be a number from 0 on")
        if self.min_records < 4:
            raise PlanError(f"min_records={self.min_records!r:.80}: must be at least 4, to have quartiles")
        if not self.outlier_key:
            raise PlanError("outlier_key is empty: name the column to write")

    def key_types(self) -> Mapping[str, str]:
        return {"rate": "DOUBLE", "part": "VARCHAR"}

    def key_row(self, record: Record) -> Sequence[Any]:
        value = record.get(self.column)
        if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
            value = None
        return (value, group_label(record, self.by))

    def reads(self) -> Collection[str]:
        return (self.column, *self.by)

    def writes(self) -> Collection[str]:
        return (self.outlier_key,)

    def decide(self, keys: KeyTable) -> Decisions:
        name = self.outlier_key.replace('"', '""')
        # A sort of all values within their groups, which DuckDB can spill; quantile_cont would hold them in memory.
        keys.connection.execute(
            f"""
            CREATE TABLE limits AS
            SELECT part, q1 - {self.factor!r} * (q3 - q1) AS least, q3 + {self.factor!r} * (q3 - q1) AS most
            FROM (
                SELECT part, {_quartile(0.25)} AS q1, {_quartile(0.75)} AS q3
                FROM (
                    SELECT part, rate, row_number() OVER (PARTITION BY part ORDER BY rate) - 1 AS place,
                        count(*) OVER (PARTITION BY part) AS n
                    FROM keys WHERE rate IS NOT NULL
                )
                WHERE n >= {self.min_records}
                GROUP BY part, n
            )
            """
        )
        return Decisions(
            f'SELECT position, rate < least OR rate > most AS "{name}" FROM keys LEFT JOIN limits USING (part)',
            columns=(self.outlier_key,),
        )


def _quartile(share: float) -> str:
    """Return the SQL of a quantile: between the values at the two places around (n - 1) · share."""
    exact = f"(n - 1) * {share}"
    low = f"max(CASE WHEN place = floor({exact}) THEN rate END)"
    high = f"max(CASE WHEN place = ceil({exact}) THEN rate END)"
    return f"{low} + ({high} - {low}) * ({exact} - floor({exact}))"
