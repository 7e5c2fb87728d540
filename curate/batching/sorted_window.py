"""The sorted window of a planner: waiting items in order of length, cut into slices with the least padding."""

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
"""The padding that an additional batch must save when the last window is cut, as a share of a full batch.

From 0.2 on, the number of batches of a whole window is the minimum, and only the cuts between them change.
"""


@attrs.frozen
class Slice:
    """Items that become one batch.

    Args:
        indices: the indices of the items, shortest first.
        lengths_s: the lengths of the items.
        is_full: whether one more item as long as the longest would not fit.
    """

    indices: Indices
    lengths_s: Seconds
    is_full: bool


class SortedWindow:
    """The items that wait to be cut, sorted by length.

    A *slice* is a range of neighbours in length. It is *full* when it has as many items as fit at the length of its
    last and longest one.

    Args:
        caps: returns for each length the maximum number of such items in one batch, at least 1.
    """

    # Why the least padding first: in a long-tailed corpus, full slices of the longest items have five items and those
    # of the shortest hundreds, and the parts of the window become dense at different rates. The slice with the least
    # padding lies where the window is dense already; items in the sparse parts keep waiting for closer neighbours.
    #
    # `_caps` need not decrease along the window: a controller may allow more long items than short ones, where short
    # ones ran out of memory, or where they were too few to grow. The cap of a slice is that of its longest item.

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
        """Add new items; each call counts as one refill."""
        import numpy as np

        self._refills += 1
        lengths = np.concatenate([self._lengths, lengths_s])
        order = np.argsort(lengths, kind="stable")
        self._lengths = lengths[order]
        self._indices = np.concatenate([self._indices, indices])[order]
        self._born = np.concatenate([self._born, np.full(len(indices), self._refills)])[order]
        self._caps = np.concatenate([self._caps, np.maximum(1, self._find_caps(lengths_s))])[order]

    def cut(self, items: int) -> list[Slice]:
        """Cut full slices, those with the least padding first, until at least `items` are cut or no slice is full.

        If all waiting items fit into less than one batch, they become one.
        """
        import numpy as np

        # The slices are found once and cut while they do not overlap. Finding them anew after each cut gives the same
        # waste and takes ten times as long.
        starts, ends, padding = self._full_slices()
        if not len(starts):
            return self._take([(0, len(self))])
        taken = bytearray(len(self))
        cuts: list[tuple[int, int]] = []
        for number in np.argsort(padding, kind="stable").tolist():
            start, end = int(starts[number]), int(ends[number])
            if taken.find(1, start, end) >= 0:
                continue
            taken[start:end] = b"\1" * (end - start)
            cuts.append((start, end))
            items -= end - start
            if items <= 0:
                break
        return self._take(cuts)

    def cut_aged(self, max_age: int) -> list[Slice]:
        """Cut the slices of all items that have waited for `max_age` refills."""
        import numpy as np

        slices: list[Slice] = []
        while len(self) and self._refills - int(self._born.min()) >= max_age:
            oldest = int(np.argmin(self._born))
            starts, ends, padding = self._full_slices()
            around = np.flatnonzero((starts <= oldest) & (oldest < ends))
            if len(around):
                best = around[np.argmin(padding[around])]
                slices += self._take([(int(starts[best]), int(ends[best]))])
            else:  # the item is among the shortest, too few for a full slice: cut the longest slice from the start
                ends = np.arange(1, len(self) + 1)
                slices += self._take([(0, int(ends[ends <= self._caps].max()))])
        return slices

    def drain(self, *, fewest: bool) -> list[Slice]:
        """Cut everything, longest first.

        Args:
            fewest: make every batch full except the last, which has the shortest items. Otherwise the padding is
                minimised, with the same number of batches or hardly more.
        """
        return self._take(self._longest_first() if fewest else self._least_padding())

    def _full_slices(self) -> tuple[Counts, Counts, Seconds]:
        """Return the start, the end and the padding in seconds of each full slice."""
        import numpy as np

        ends = np.arange(1, len(self) + 1)
        is_full = ends >= self._caps
        ends, caps = ends[is_full], self._caps[is_full]
        audio = np.concatenate([np.zeros(1), np.cumsum(self._lengths)])
        starts = ends - caps
        return starts, ends, caps * self._lengths[is_full] - (audio[ends] - audio[starts])

    def _longest_first(self) -> list[tuple[int, int]]:
        cuts: list[tuple[int, int]] = []
        end = len(self)
        while end:
            start = max(0, end - int(self._caps[end - 1]))
            cuts.append((start, end))
            end = start
        return cuts

    def _least_padding(self) -> list[tuple[int, int]]:
        """Return the cuts with the least total of padding and overhead."""
        import numpy as np

        # Dynamic programming over prefixes: least[i] is the least cost of batches for the i shortest items. The last
        # of these batches has the items from some j on and costs (i - j) × the i-th length, so the best j minimises
        # least[j] - j × length. Slices of neighbours suffice: sorting the items of several batches across them never
        # makes the longest item of a batch longer.
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

        slices = [
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
        return slices
