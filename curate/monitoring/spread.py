"""How values are spread, in bounded memory and so that spreads add up: moments, and counts by order of size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

from curate.monitoring.measures import Measures

ERROR = 0.01
"""Quantiles are within so much of the true value, relatively."""

_RATIO = (1 + ERROR) / (1 - ERROR)
"""Each bucket ends so many times above the one before: an estimate in its middle is never further off than `ERROR`.

From a microsecond to a day there are some 1,300 of them, however many values there were.
"""

_LEAST = 1e-6


def spread_of(value: float) -> dict[str, Any]:
    """Return the spread of one value, not below 0; `add_measures` adds others to it."""
    bucket = math.ceil(math.log(max(value, _LEAST), _RATIO))
    return {
        "count": 1,
        "sum": value,
        "squares": value * value,
        "min_value": value,
        "max_value": value,
        "buckets": {str(bucket): 1},
    }


def mean(spread: Measures) -> float:
    return spread["sum"] / spread["count"]


def standard_deviation(spread: Measures) -> float:
    """Return the deviation of the values themselves, as `numpy.std` does."""
    return math.sqrt(max(0.0, spread["squares"] / spread["count"] - mean(spread) ** 2))


def quantile(spread: Measures, share: float) -> float:
    """Return the value that `share` of the values do not exceed, at most `ERROR` off."""
    rank = max(1, math.ceil(share * spread["count"]))
    buckets = cast("Mapping[str, int]", spread["buckets"])
    found = 0
    for bucket, count in sorted((int(bucket), count) for bucket, count in buckets.items()):
        found += count
        if found >= rank:
            middle = 2 * _RATIO**bucket / (_RATIO + 1)
            return min(max(middle, spread["min_value"]), spread["max_value"])
    return spread["max_value"]
