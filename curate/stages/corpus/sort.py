"""The stage that sorts all records."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from curate.corpus import Decisions, KeyGather, KeyTable
from curate.errors import PlanError
from curate.records import Record
from curate.stages.corpus.drawing import check_columns


@dataclass
class Sort(KeyGather):
    """Sorts all records by columns, out of core; records with equal values stay in the order of the input.

    Numbers come before strings, strings are compared by code point, and null and missing values are last, whatever the
    direction.

    Args:
        by: the columns, the first one decides first; a minus in front sorts the largest first: `["lang", "-duration"]`.
    """

    by: Sequence[str]

    def check(self) -> None:
        super().check()
        check_columns("by", self.by, needed=True)
        for name in self.by:
            if not name.removeprefix("-"):
                raise PlanError(f"by={list(self.by)!r:.80}: a minus stands in front of the name of a column")
        if len(set(self._columns())) < len(self.by):
            raise PlanError(f"by={list(self.by)!r:.80}: a column stands twice")

    def _columns(self) -> list[str]:
        return [name.removeprefix("-") for name in self.by]

    def key_types(self) -> Mapping[str, str]:
        pairs = (((f"number{place}", "DOUBLE"), (f"string{place}", "VARCHAR")) for place in range(len(self.by)))
        return {name: type_name for pair in pairs for name, type_name in pair}

    def key_row(self, record: Record) -> Sequence[Any]:
        return [part for name in self._columns() for part in _parts(record.get(name))]

    def reads(self) -> Collection[str]:
        return self._columns()

    def writes(self) -> Collection[str]:
        return ()

    def decide(self, keys: KeyTable) -> Decisions:
        terms: list[str] = []
        for place, name in enumerate(self.by):
            direction = "DESC" if name.startswith("-") else "ASC"
            terms.append(f"number{place} IS NULL AND string{place} IS NULL")
            # Of numbers and strings together, the numbers are first in both directions.
            terms.append(f"number{place} IS NULL")
            terms += [f"number{place} {direction}", f"string{place} {direction}"]
        order = ", ".join([*terms, "position"])
        return Decisions(f"SELECT position, row_number() OVER (ORDER BY {order}) AS rank FROM keys", ordered=True)


def _parts(value: Any) -> tuple[float | None, str | None]:
    if value is None:
        return None, None
    if isinstance(value, Real):
        number = _float(value)
        return (None if math.isnan(number) else number), None  # NaN has no place among numbers
    if isinstance(value, str):
        return None, value.encode("utf-8", "replace").decode()
    return None, json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def _float(value: Real) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return math.inf if str(value)[:1] != "-" else -math.inf
