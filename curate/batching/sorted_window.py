"""The window of a planner: items sorted by length, out of which the runs with the least padding are cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Indices = NDArray[np.int64]
    Counts = NDArray[np.int64]
    Seconds = NDArray[np.float64]

BATCH_OVERHEAD = 0.5
"""How much padding one batch more must save when the last window is cut, in shares of a full batch.

From 0.2 on, the number of batches of a whole window is the smallest possible, and only where they are cut changes.
"""


@attrs.frozen
class Slice:
    """Items that become one batch.

    Args:
        indices: of the items, shortest first.
        lengths_s: of the items.
        is_full: one more item as long as the longest would not fit.
    """

    indices: Indices
    lengths_s: Seconds
    is_full: bool


class SortedWindow:
    """Items waiting to be cut, sorted by length.

    A *run* is a stretch of neighbours; a *full* run ends at an item of which as many fit as the run has items. The
    longest full runs of a long-tailed corpus are of five items and the shortest of hundreds, and each stretch of the
    window becomes dense at its own pace: cutting the run with the least padding, wherever it is, waits where
    waiting helps.

    Args:
        caps: returns for lengths how many items as long as each may be in one batch, at least 1.
    """

    def __init__(self, caps: Callable[[Seconds], Counts]) -> None:
        import numpy as np

        self._find_caps = caps
        self._indices: Indices = np.empty(0, np.int64)
        self._lengths: Seconds = np.empty(0)
        self._caps: Counts = np.empty(0, np.int64)
        self._born: Counts = np.empty(0, np.int64)
        self._refills = 0

    def __len__(self) -> int:
        return len(self._indices)

    def add(self, indices: Indices, lengths_s: Seconds) -> None:
        """Take in new items; one call is one refill."""
        import numpy as np

        self._refills += 1
        lengths = np.concatenate([self._lengths, lengths_s])
        order = np.argsort(lengths, kind="stable")
        self._lengths = lengths[order]
        self._indices = np.concatenate([self._indices, indices])[order]
        self._born = np.concatenate([self._born, np.full(len(indices), self._refills)])[order]
        # longer items never travel in larger numbers, even where a controller has shrunk only the shorter ones
        caps = np.concatenate([self._caps, np.maximum(1, self._find_caps(lengths_s))])[order]
        self._caps = np.minimum.accumulate(caps)

    def cut(self, items: int) -> list[Slice]:
        """Cut full runs, those with the least padding first, until so many items have left, or no more are full.

        The runs are found once and taken while they do not overlap. Finding them anew after each cut gives the same
        waste and takes ten times as long. If all that waits fits into less than one batch, it leaves as one.
        """
        import numpy as np

        starts, ends, padding = self._full_runs()
        if not len(starts):
            return self._take([(0, len(self))])
        taken = bytearray(len(self))
        cuts: list[tuple[int, int]] = []
        for run in np.argsort(padding, kind="stable").tolist():
            start, end = int(starts[run]), int(ends[run])
            # runs that end later never start earlier, so one that overlaps has an end inside the other
            if taken[start] or taken[end - 1]:
                continue
            taken[start:end] = b"\1" * (end - start)
            cuts.append((start, end))
            items -= end - start
            if items <= 0:
                break
        return self._take(cuts)

    def cut_aged(self, max_age: int) -> list[Slice]:
        """Cut the runs of all items that have seen `max_age` refills since their own."""
        import numpy as np

        runs: list[Slice] = []
        while len(self) and self._refills - int(self._born.min()) >= max_age:
            oldest = int(np.argmin(self._born))
            starts, ends, padding = self._full_runs()
            around = np.flatnonzero((starts <= oldest) & (oldest < ends))
            if len(around):
                best = around[np.argmin(padding[around])]
                runs += self._take([(int(starts[best]), int(ends[best]))])
            else:  # too few are as short as it; they leave together with the longest that still fits
                ends = np.arange(1, len(self) + 1)
                runs += self._take([(0, int(ends[ends <= self._caps].max()))])
        return runs

    def drain(self, *, fewest: bool) -> list[Slice]:
        """Cut everything, longest first.

        Args:
            fewest: make every batch full but the last, which has the shortest items. Otherwise there are as many
                batches or hardly more, cut where the padding is least.
        """
        return self._take(self._longest_first() if fewest else self._least_padding())

    def _full_runs(self) -> tuple[Counts, Counts, Seconds]:
        """Return for each full run its start, its end and its padding in seconds."""
        import numpy as np

        ends = np.arange(1, len(self) + 1)
        first = int(np.searchsorted(ends - self._caps, 0))  # starts never fall, so the full runs are the last ones
        ends, caps = ends[first:], self._caps[first:]
        audio = np.concatenate([np.zeros(1), np.cumsum(self._lengths)])
        starts = ends - caps
        return starts, ends, caps * self._lengths[first:] - (audio[ends] - audio[starts])

    def _longest_first(self) -> list[tuple[int, int]]:
        cuts: list[tuple[int, int]] = []
        end = len(self)
        while end:
            start = max(0, end - int(self._caps[end - 1]))
            cuts.append((start, end))
            end = start
        return cuts

    def _least_padding(self) -> list[tuple[int, int]]:
        """Return the cuts with the least padding and overhead together, found by dynamic programming.

        least[i] is what the i shortest items cost at best. Their last batch takes the items from some j on, at
        (i - j) × the i-th length, so j is the one with the least least[j] - j × length.
        """
        import numpy as np

        overhead_s = BATCH_OVERHEAD * float(np.median(self._caps * self._lengths))
        positions = np.arange(len(self) + 1, dtype=np.float64)
        least = np.zeros(len(self) + 1)
        starts = [0] * (len(self) + 1)
        pairs = zip(self._lengths.tolist(), self._caps.tolist(), strict=True)
        for end, (length_s, cap) in enumerate(pairs, start=1):
            first = max(0, end - cap)
            costs = least[first:end] - positions[first:end] * length_s
            best = int(costs.argmin())
            starts[end] = first + best
            least[end] = costs[best] + end * length_s + overhead_s
        cuts: list[tuple[int, int]] = []
        end = len(self)
        while end:
            cuts.append((starts[end], end))
            end = starts[end]
        return cuts

    def _take(self, cuts: list[tuple[int, int]]) -> list[Slice]:
        import numpy as np

        runs = [
            Slice(
                self._indices[start:end],
                self._lengths[start:end],
                is_full=end - start >= int(self._caps[end - 1]),
            )
            for start, end in cuts
        ]
        left = np.ones(len(self), dtype=bool)
        for start, end in cuts:
            left[start:end] = False
        self._indices, self._lengths = self._indices[left], self._lengths[left]
        self._caps, self._born = self._caps[left], self._born[left]
        return runs
