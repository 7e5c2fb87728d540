"""What a shard holds, counted while it is written, and added up when the set is published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from curate.records import ID, Record

TALLIED = ("lang", "license", "source")
"""The columns whose hours a published set names."""

_MOST_VALUES = 200
"""At most this many different values of a column are named."""

OTHERS = "(others)"
"""Takes the place of the values beyond the most that are named."""

_STEP_S = 0.01
"""The resolution of durations in a histogram."""


class ShardTally:
    """The records of one shard: durations by id, and their sums by the values of some columns."""

    def __init__(self) -> None:
        self.durations: dict[str, float] = {}
        self._tokens: list[list[float]] = []
        self._seconds: dict[str, dict[str, float]] = {}

    def add(self, record: Record, duration_s: float) -> None:
        self.durations[record[ID]] = duration_s
        for column in TALLIED:
            value = record.get(column)
            if isinstance(value, str) and value:
                seconds = self._seconds.setdefault(column, {})
                seconds[value] = seconds.get(value, 0.0) + duration_s
        tokens = record.get("tokens")
        if isinstance(tokens, int) and not isinstance(tokens, bool):
            self._tokens.append([duration_s, tokens])

    def totals(self) -> dict[str, Any]:
        """Return what the shard's description says in addition to the durations."""
        return {"seconds": {column: _named(values) for column, values in self._seconds.items()}, "tokens": self._tokens}


class SetTally:
    """All shards of a set, in memory that does not grow with their records."""

    def __init__(self) -> None:
        self.seconds: dict[str, dict[str, float]] = {}
        self.durations: Counter[int] = Counter()
        """How many records there are of each length, in steps of 10 ms, rounded up."""
        self.tokens: Counter[tuple[int, int]] = Counter()
        """How many records there are of each length and number of tokens."""

    def add(self, description: Mapping[str, Any]) -> None:
        for column, values in description.get("seconds", {}).items():
            seconds = self.seconds.setdefault(column, {})
            for value, more in values.items():
                seconds[value] = seconds.get(value, 0.0) + more
        self.durations.update(steps_of(duration) for duration in description["durations"].values())
        self.tokens.update((steps_of(duration), tokens) for duration, tokens in description.get("tokens", ()))

    def hours(self) -> dict[str, dict[str, float]]:
        """Return the hours by the values of each column, the most first."""
        return {
            column: {value: round(seconds / 3600, 6) for value, seconds in _named(self.seconds[column]).items()}
            for column in TALLIED
            if self.seconds.get(column)
        }


def steps_of(duration_s: float) -> int:
    """Return a length in steps of 10 ms, rounded up."""
    return -int(-duration_s / _STEP_S // 1)


def _named(values: Mapping[str, float]) -> dict[str, float]:
    """Return the largest values, the rest as one."""
    ordered = sorted(values.items(), key=lambda pair: (-pair[1], pair[0]))
    named = {value: round(seconds, 6) for value, seconds in ordered[:_MOST_VALUES]}
    rest = sum(seconds for _, seconds in ordered[_MOST_VALUES:])
    return {**named, OTHERS: round(named.get(OTHERS, 0) + rest, 6)} if rest else named
