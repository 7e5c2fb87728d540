"""The distribution of values in bounded memory: moments and a histogram, which add up across workers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

from curate.monitoring.measures import Measures

ERROR = 0.01
"""The maximum relative error of a quantile."""

_RATIO = (1 + ERROR) / (1 - ERROR)
"""The ratio of the ends of neighbouring buckets: an estimate in the middle of a bucket has at most the error `ERROR`.

From a microsecond to a day there are some 1,300 buckets, whatever the number of values.
"""

_LEAST = 1e-6


def spread_of(value: float) -> dict[str, Any]:
    """Return the distribution of one value of at least 0; `add_measures` adds others to it."""
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
    """Return the population standard deviation, as `numpy.std` does."""
    return math.sqrt(max(0.0, spread["squares"] / spread["count"] - mean(spread) ** 2))


def quantile(spread: Measures, share: float) -> float:
    """Return the value that `share` of the values do not exceed, with a relative error of at most `ERROR`."""
    rank = max(1, math.ceil(share * spread["count"]))
    buckets = cast("Mapping[str, int]", spread["buckets"])
    found = 0
    for bucket, count in sorted((int(bucket), count) for bucket, count in buckets.items()):
        found += count
        if found >= rank:
            middle = 2 * _RATIO**bucket / (_RATIO + 1)
            return min(max(middle, spread["min_value"]), spread["max_value"])
    return spread["max_value"]
