"""The length-aware planner: batches of items × longest within a budget, from a window that moves along the stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import attrs

from curate.batching.batcher import Batcher, report_remainder
from curate.batching.costs import PADDED_SECONDS, CostModel, cost_model
from curate.batching.lengths import Dropped, Lengths
from curate.batching.sorted_window import Slice, SortedWindow
from curate.batching.validators import flag, number, whole
from curate.errors import PlanError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REFILLS_PER_WINDOW = 8
"""The window is refilled in blocks: smaller ones change the waste by less than 0.01 % and take longer."""

MAX_AGE = 32
"""Refills, that is four windows. Less fills the window's tails too seldom; more leaves it full of odd lengths."""


@attrs.frozen
class _WindowBatcher(Batcher):
    """What the batchers of a sorted window share."""

    window: int = attrs.field(default=8192, validator=whole(1), kw_only=True)
    max_items: int | None = attrs.field(default=None, validator=whole(1, optional=True), kw_only=True)
    multiple_of: int = attrs.field(default=1, validator=whole(1), kw_only=True)
    max_age: int = attrs.field(default=MAX_AGE, validator=whole(1), kw_only=True)
    largest_first: bool = attrs.field(default=False, validator=flag, kw_only=True)
    drop_remainder: bool = attrs.field(default=False, validator=flag, kw_only=True)
    scale: Callable[[float], float] | None = attrs.field(default=None, kw_only=True, eq=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.largest_first and self.batch_shuffle_window > 1:
            raise PlanError("largest_first orders the batches and batch_shuffle_window mixes them: choose one")
        if self.max_items is not None and self.multiple_of > self.max_items:
            raise PlanError(f"multiple_of={self.multiple_of} is above max_items={self.max_items}")
        budget, model = self._budget()
        if model.safety * model.c0 >= budget:
            raise PlanError(
                f"the budget of {budget:g} is used up by what every batch costs ({model.safety * model.c0:g}): "
                "not one item fits"
            )

    def share(self, n: int, length_s: float) -> float:
        """Return which share of the budget n items use whose longest has `length_s` seconds."""
        budget, model = self._budget()
        return model.cost(n, length_s) / budget

    def _budget(self) -> tuple[float, CostModel]:
        """Return the budget and the cost that is held against it."""
        raise NotImplementedError(f"{type(self).__name__} must define _budget()")

    def cut(self, lengths: Lengths, drop: Callable[[Dropped], None]) -> Iterator[list[int]]:
        import numpy as np

        waiting = SortedWindow(self._caps)
        block = max(1, self.window // REFILLS_PER_WINDOW)
        next_indices, next_lengths = lengths.take(1)
        while len(next_indices):
            # one item is read ahead: a window that is the last one is cut as a whole, which wastes less
            indices, seconds = lengths.take(self.window - len(waiting))
            indices, seconds = np.concatenate([next_indices, indices]), np.concatenate([next_lengths, seconds])
            taken = min(len(indices), self.window - len(waiting))
            waiting.add(indices[:taken], seconds[:taken])
            next_indices, next_lengths = indices[taken:], seconds[taken:]
            if len(next_indices):
                # what has waited too long leaves first; that makes room too
                aged = waiting.cut_aged(self.max_age)
                missing = block - (self.window - len(waiting))
                yield from self._batches([*aged, *(waiting.cut(missing) if missing > 0 else [])])
        runs = waiting.drain(fewest=self.drop_remainder or self.multiple_of > 1) if len(waiting) else []
        if self.drop_remainder:
            for run in runs:
                if not run.is_full:
                    report_remainder(zip(run.indices.tolist(), run.lengths_s.tolist(), strict=True), drop)
            runs = [run for run in runs if run.is_full]
        yield from self._batches(runs)

    def _batches(self, runs: list[Slice]) -> Iterator[list[int]]:
        if self.largest_first:
            runs = sorted(runs, key=lambda run: -len(run.indices))
        for run in runs:
            yield run.indices.tolist()

    def _caps(self, lengths_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return how many items of each length fit, as `max_items` and `multiple_of` allow."""
        import numpy as np

        budget, model = self._budget()
        budgets = budget if self.scale is None else budget * np.array([self.scale(s) for s in lengths_s.tolist()])
        caps = model.caps(budgets, lengths_s)
        if self.max_items is not None:
            caps = np.minimum(caps, self.max_items)
        return np.where(caps > self.multiple_of, caps - caps % self.multiple_of, caps)


@attrs.frozen
class LengthBatcher(_WindowBatcher):
    """Cuts batches whose padded size, items × longest, is at most `max_batch_s` seconds.

    A window of items is kept sorted by length. Again and again the full runs with the least padding are cut and the
    window is refilled in blocks; the last window is cut as a whole. One item that is longer than `max_batch_s` is a
    batch of its own.

    Args:
        max_batch_s: the budget of a batch, in padded seconds.
        window: items that wait at most; also how far a batch can be from the input's order.
        max_items: the most items in a batch.
        multiple_of: numbers of items are rounded down to a multiple of it, where they are above it; what is left at
            the end, or has waited too long, may be fewer.
        max_age: an item that has waited for so many refills (of an eighth of the window) is cut now.
        cost: what is held against `max_batch_s` in place of padded seconds.
        largest_first: of the batches that are cut at a time, those with most items come first. Graphs captured for
            a batch are then large enough for the next.
        drop_remainder: leave out what does not fill a batch at the end; reported as dropped.
        scale: by how much the budget for a length is changed, such as `BatchController.scale`.
    """

    max_batch_s: float = attrs.field(default=200.0, validator=number(above=0))
    cost: CostModel = attrs.field(default=PADDED_SECONDS, validator=cost_model, kw_only=True)

    def _budget(self) -> tuple[float, CostModel]:
        return self.max_batch_s, self.cost


@attrs.frozen
class MemoryBatcher(_WindowBatcher):
    """Cuts batches that need at most `budget_bytes`, as a cost model says; else as `LengthBatcher`.

    With attention, short clips are cheaper than their seconds: within the same peak, there are 1.3 to 2 times fewer
    batches than with a budget of padded seconds that is safe for the longest clip.

    Args:
        budget_bytes: what a batch may use, beside the weights.
        cost: fitted on the device to measured peaks (`CostModel.fit`), in bytes.
    """

    budget_bytes: float = attrs.field(validator=number(above=0))
    cost: CostModel = attrs.field(validator=cost_model)

    def _budget(self) -> tuple[float, CostModel]:
        return self.budget_bytes, self.cost
