"""What became of the records of each dataset, language and speaker, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

from curate.records import Record, audio_ms
from curate.report.samples import Fate
from curate.report.sanitize import printable

BREAKDOWNS: Mapping[str, str] = MappingProxyType(
    {"dataset": "dataset", "source": "source", "lang": "language", "speaker": "speaker"}
)
"""The columns by which records are broken down → what their values are called."""

MAX_VALUES = 20_000
"""The maximum number of values of a column that are counted separately; records with others are counted together."""


class Group:
    """The records with one value of a column."""

    def __init__(self) -> None:
        self.records = 0
        self.kept = 0
        self.ms = 0
        self.kept_ms = 0
        self.errors = 0.0
        self.words = 0

    def add(self, other: Group) -> None:
        """Add the records of another group."""
        self.records += other.records
        self.kept += other.kept
        self.ms += other.ms
        self.kept_ms += other.kept_ms
        self.errors += other.errors
        self.words += other.words


class Breakdown:
    """The groups of all columns of `BREAKDOWNS` that records have."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[str | None, Group]] = {}
        self._others: dict[str, Group] = {}

    def see(self, fate: Fate, record: Mapping[str, Any], rate: float | None, words: int) -> None:
        """Count a record, with its error rate and the number of words that it is about."""
        for column in BREAKDOWNS:
            if column not in record:
                continue
            groups = self._groups.setdefault(column, {})
            group = groups.get(value := _value(record[column]))
            if group is None:
                full = len(groups) >= MAX_VALUES
                group = self._others.setdefault(column, Group()) if full else groups.setdefault(value, Group())
            ms = audio_ms(cast("Record", record))
            group.records += 1
            group.ms += ms
            if fate == "kept":
                group.kept += 1
                group.kept_ms += ms
            if rate is not None:
                group.errors += rate * words
                group.words += words

    def found(self, column: str, most: int) -> tuple[Sequence[tuple[str | None, Group]], int | None, Group]:
        """Return the groups with most audio, the number of the others (None: not counted), and these together.

        Args:
            column: one of `BREAKDOWNS`.
            most: the maximum number of groups; groups with equal audio are in order of their values.
        """
        groups = self._groups.get(column, {})
        ordered = sorted(groups.items(), key=lambda one: (-one[1].ms, -one[1].records, one[0] or ""))
        rest = Group()
        for _, group in ordered[most:]:
            rest.add(group)
        if column not in self._others:
            return ordered[:most], max(len(ordered) - most, 0), rest
        rest.add(self._others[column])
        return ordered[:most], None, rest


def _value(value: Any) -> str | None:
    return None if value is None else printable(value, 80)
