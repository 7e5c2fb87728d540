"""The addition of measures: plain data whose type and name determine how two values are added."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

Measures: TypeAlias = "Mapping[str, Any]"
"""Numbers, lists, and mappings of these by name; ready for JSON and for a pipe."""

LAST = 200
"""The maximum length of a list; the last entries are kept."""


def add_measures(*parts: Measures) -> dict[str, Any]:
    """Return the sum of measures, as new plain data.

    Numbers are added, except under a name that begins with `max_` or `min_`, where the largest or the smallest
    counts, and with `last_`, where the later one does. Mappings are added name by name. Lists are concatenated, and the
    last `LAST` entries are kept. Addition is associative, so measures of workers, commit units and attempts may be
    added in any grouping.

    Raises:
        TypeError: a value has another type, or two values of one name have different types; the message names it.
    """
    total: dict[str, Any] = {}
    for part in parts:
        add_to(total, part)
    return total


def add_to(total: dict[str, Any], part: Measures, path: str = "") -> None:
    """Add measures to `total`, as `add_measures` does."""
    for name, value in part.items():
        before = total.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            if before is None:
                total[name] = value
                continue
            if isinstance(before, int | float):
                total[name] = _joined(name, before, value)
                continue
        elif isinstance(value, Mapping):
            if before is None:
                before = total[name] = {}
            if isinstance(before, dict):
                add_to(cast("dict[str, Any]", before), cast("Measures", value), f"{path}{name}.")
                continue
        elif isinstance(value, list) and (before is None or isinstance(before, list)):
            total[name] = [*(before or ()), *cast("list[Any]", value)][-LAST:]
            continue
        raise TypeError(
            f"{path}{name}={value!r} cannot be added to {before!r}: a measure must be a finite number, a list, or a "
            "mapping of measures, and keep its type"
        )


def _joined(name: str, one: float, other: float) -> float:
    if name.startswith("max_"):
        return max(one, other)
    if name.startswith("min_"):
        return min(one, other)
    if name.startswith("last_"):
        return other
    return one + other
