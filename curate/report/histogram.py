"""Counts of numbers in bounded memory: exact while there are few different ones, in fine bins when there are many."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import attrs

_MAX_KEYS = 4096
_FIRST_WIDTH = 2.0**-10

_BARS = 40
_STEPS = (1.0, 2.0, 2.5, 5.0)


class Histogram:
    """How often which number occurred.

    While fewer than some thousand numbers differ, each is a key. Then they are put into bins whose width is a power of
    two, which doubles whenever there are too many bins; the result does not depend on the order of the numbers.
    """

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self._counts: dict[float, int] = {}
        self._width: float | None = None

    def add(self, value: float, times: int = 1) -> None:
        """Count a finite number."""
        self.count += times
        self.total += value * times
        key = value if self._width is None else self._middle(value)
        self._counts[key] = self._counts.get(key, 0) + times
        while len(self._counts) > _MAX_KEYS:
            self._widen()

    def quantile(self, share: float) -> float | None:
        """Return the number that a share of all do not exceed; None if there are none."""
        wanted, seen = share * self.count, 0
        for value, count in self:
            seen += count
            if seen >= wanted:
                return value
        return None

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None

    def __iter__(self) -> Iterator[tuple[float, int]]:
        """Yield numbers, or the middles of bins, and their counts, ascending."""
        return iter(sorted(self._counts.items()))

    def _middle(self, value: float) -> float:
        width = self._width or 1.0
        return (math.floor(value / width) + 0.5) * width

    def _widen(self) -> None:
        self._width = _FIRST_WIDTH if self._width is None else self._width * 2
        counts, self._counts = self._counts, {}
        for value, count in counts.items():
            middle = self._middle(value)
            self._counts[middle] = self._counts.get(middle, 0) + count


@attrs.frozen
class Bars:
    """A scale of equal bars. The last one also has what lies beyond, if `beyond`."""

    start: float
    width: float
    bars: int
    beyond: bool

    @classmethod
    def over(cls, histogram: Histogram, include: Sequence[float] = ()) -> Bars | None:
        """Return a scale with round numbers over nearly all values and `include`; None if there are no values."""
        low, high = histogram.quantile(0.0), histogram.quantile(0.99)
        highest = histogram.quantile(1.0)
        if low is None or high is None or highest is None:
            return None
        near = [value for value in include if low - (high - low) <= value <= 2 * max(high, 1e-9) + (high - low)]
        low, high = min([low, *near]), max([high, *near])
        if 0 <= low < (high - low) / 2:
            low = 0.0
        if low == high == highest:
            width = _round_up(max(abs(low), 1e-3) / 5)
            start = low - 4.5 * width if low < 0 else max(low - 4.5 * width, 0.0)
            return cls(start, width, 9, beyond=False)  # places for others, so that the one bar is narrow
        span = max(high - low, 1e-6)
        width = _round_up(span / _BARS)
        start = math.floor(low / width) * width
        bars = math.floor((high - start) / width) + 1
        beyond = highest >= start + bars * width
        return cls(start, width, bars, beyond)

    def place(self, histogram: Histogram) -> list[int]:
        """Return how many values lie in each bar."""
        placed = [0] * self.bars
        for value, count in histogram:
            bar = math.floor((value - self.start) / self.width + 1e-9)
            placed[min(max(bar, 0), self.bars - 1)] += count
        return placed


def _round_up(width: float) -> float:
    power = 10.0 ** math.floor(math.log10(width))
    return next((step * power for step in _STEPS if step * power >= width * 0.999), 10 * power)
