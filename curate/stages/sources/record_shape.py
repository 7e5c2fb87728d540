"""The settings that every reader has for its columns: renamed, kept, dropped, constant, or made numbers."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import attrs

from curate.errors import PlanError
from curate.io.tables import number_of
from curate.records import ID, Record
from curate.suggest import closest

NAMED_CONSTANTS = ("lang", "license", "source", "speaker")
"""The columns for whose constants a reader has settings of their own."""

SHAPING = ("columns", "keep", "drop", "numbers", "constants", *NAMED_CONSTANTS)
"""The settings of `ColumnSettings`."""


@dataclass(kw_only=True)
class ColumnSettings:
    """The settings that every reader has for its columns.

    Args:
        columns: the names of columns in the records, and in the input: `{text: sentence}`.
        keep: the only columns that stay, by their names in the records; empty: all.
        drop: columns that do not stay; where the format allows it they are not even read.
        numbers: columns of a table without types whose cells become numbers; `duration`, `offset`, `sampling_rate` and
            `channels` do so anyway.
        constants: columns that have one value in all records, such as `{accent: welsh}`.
        lang: the language of all records, as BCP-47 or any tag of the table; empty: the input's column `lang`.
        license: the license of all records; empty: the input's column `license`.
        source: where all records come from; empty: the input's column `source`.
        speaker: the speaker of all records; empty: the input's column `speaker`.
    """

    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    keep: Sequence[str] = ()
    drop: Sequence[str] = ()
    numbers: Sequence[str] = ()
    constants: Mapping[str, Any] = field(default_factory=dict[str, Any])
    lang: str = ""
    license: str = ""
    source: str = ""
    speaker: str = ""

    def shape(self) -> RecordShape | None:
        """Return how the settings change the columns; None: not at all."""
        named = {name: value for name in NAMED_CONSTANTS if (value := getattr(self, name))}
        return make_shape(self.columns, self.keep, self.drop, {**self.constants, **named}, self.numbers)


@attrs.frozen
class RecordShape:
    """How the columns of an input become those of the records.

    Args:
        new_names: the input's name of a column → its name in the records.
        keep: the only columns that stay, by their new names; empty: all.
        drop: the columns that do not stay, by their new names.
        constants: columns that have the same value in every record.
        numbers: columns whose strings become numbers.
    """

    new_names: Mapping[str, str]
    keep: frozenset[str]
    drop: frozenset[str]
    constants: Mapping[str, Any]
    numbers: frozenset[str]

    def apply(self, row: Record) -> Record:
        """Return a row with the columns of a record."""
        names = self.new_names
        if names:
            replaced = {new for old, new in names.items() if old in row}
            row = {names.get(name, name): row[name] for name in row if name in names or name not in replaced}
        if self.keep:
            row = {name: value for name, value in row.items() if name in self.keep}
        if self.drop:
            row = {name: value for name, value in row.items() if name not in self.drop}
        for name in self.numbers:
            if name in row:
                row[name] = number_of(row[name])
        return {**row, **self.constants} if self.constants else row

    def columns(self, names: Collection[str]) -> list[str]:
        """Return the columns of records from those of the input."""
        return list(self.apply(dict.fromkeys(names)))

    def unread(self, names: Collection[str]) -> frozenset[str]:
        """Return the columns of an input that no record has, so that they need not be read."""
        kept = set(self.columns(names)) - self.constants.keys()
        return frozenset(name for name in names if self.new_names.get(name, name) not in kept)

    def check(self, names: Collection[str], where: str) -> None:
        """Check that the settings name columns of the input.

        Raises:
            PlanError: one does not; the message has the nearest name.
        """
        for old, new in self.new_names.items():
            if old not in names:
                raise PlanError(f"columns: {new}: {old}: {where} has no column {old!r}: {closest(old, sorted(names))}")
        records = {self.new_names.get(name, name) for name in names} | {ID}
        for setting, wanted in (("keep", self.keep), ("drop", self.drop), ("numbers", self.numbers)):
            for name in sorted(wanted - records - self.constants.keys()):
                raise PlanError(f"{setting}: {where} has no column {name!r}: {closest(name, sorted(records))}")


def make_shape(
    columns: Mapping[str, str],
    keep: Sequence[str],
    drop: Sequence[str],
    constants: Mapping[str, Any],
    numbers: Sequence[str],
) -> RecordShape | None:
    """Return the shape that settings ask for; None: the records are as their input has them.

    Raises:
        PlanError: two settings contradict each other.
    """
    old = list(columns.values())
    for name in old:
        if old.count(name) > 1:
            raise PlanError(f"columns: {name!r} is renamed to two names; a column of the input becomes one of a record")
    for name in drop:
        if name in keep or name in constants:
            raise PlanError(f"drop: {name!r} is kept or constant as well; leave one out")
    if not (columns or keep or drop or constants or numbers):
        return None
    return RecordShape(
        {old: new for new, old in columns.items()},
        frozenset(keep),
        frozenset(drop),
        constants,
        frozenset(numbers),
    )


@functools.cache
def bcp_47(tag: str) -> str:
    """Return the BCP-47 tag of a language; the tag as it is if the table does not have it."""
    from curate.text import language_tag

    return language_tag(tag) or tag
