"""The length-aware planners: batches within a budget, cut from a window that moves along the stream."""

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
"""Refill blocks per window: smaller blocks change the waste by less than 0.01 % and take longer."""

MAX_AGE = 32
"""Maximum age in refills, here four windows. A lower age cuts items at the tails of the window before they have
neighbours; a higher one fills the window with rare lengths."""


@attrs.frozen
class _WindowBatcher(Batcher):
    """The base class of batchers that plan with a sorted window."""

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
            raise PlanError("largest_first sorts the batches and batch_shuffle_window shuffles them: choose one")
        if self.max_items is not None and self.multiple_of > self.max_items:
            raise PlanError(f"multiple_of={self.multiple_of} is above max_items={self.max_items}")
        budget, model = self._budget()
        if model.safety * model.c0 >= budget:
            raise PlanError(
                f"budget {budget:g} is too small: the fixed cost of a batch is already {model.safety * model.c0:g}"
            )

    def share(self, n: int, length_s: float) -> float:
        """Return the share of the budget that n items use whose longest has `length_s` seconds."""
        budget, model = self._budget()
        return model.cost(n, length_s) / budget

    def _budget(self) -> tuple[float, CostModel]:
        """Return the budget and the cost model that is compared with it."""
        raise NotImplementedError(f"{type(self).__name__} must define _budget()")

    def cut(self, lengths: Lengths, drop: Callable[[Dropped], None]) -> Iterator[list[int]]:
        import numpy as np

        # The window is cut only when it is full, and only by about one block: the more items wait, the closer
        # neighbours in length are, and the less padding a full batch has. Aged items leave first, which bounds how far
        # a batch is from the input's order; the space that they free counts towards the block. One item is read
        # ahead, because the last window has to be known as such: it is cut as a whole, by an optimal division, where
        # cutting batch by batch would leave a badly filled rest.
        waiting = SortedWindow(self._caps)
        block = max(1, self.window // REFILLS_PER_WINDOW)
        next_indices, next_lengths = lengths.take(1)
        while len(next_indices):
            indices, seconds = lengths.take(self.window - len(waiting))
            indices, seconds = np.concatenate([next_indices, indices]), np.concatenate([next_lengths, seconds])
            taken = min(len(indices), self.window - len(waiting))
            waiting.add(indices[:taken], seconds[:taken])
            next_indices, next_lengths = indices[taken:], seconds[taken:]
            if len(next_indices):
                aged = waiting.cut_aged(self.max_age)
                missing = block - (self.window - len(waiting))
                yield from self._batches([*aged, *(waiting.cut(missing) if missing > 0 else [])])
        slices = waiting.drain(fewest=self.drop_remainder or self.multiple_of > 1) if len(waiting) else []
        if self.drop_remainder:
            for one in slices:
                if not one.is_full:
                    report_remainder(zip(one.indices.tolist(), one.lengths_s.tolist(), strict=True), drop)
            slices = [one for one in slices if one.is_full]
        yield from self._batches(slices)

    def _batches(self, slices: list[Slice]) -> Iterator[list[int]]:
        if self.largest_first:
            slices = sorted(slices, key=lambda one: -len(one.indices))
        for one in slices:
            yield one.indices.tolist()

    def _caps(self, lengths_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return for each length the number of items that fit, within `max_items` and `multiple_of`."""
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

    A window of items is kept sorted by length. The planner repeatedly cuts the full slices with the least padding and
    refills the window in blocks; it cuts the last window as a whole. One item that is longer than `max_batch_s` forms
    a batch alone.

    Args:
        max_batch_s: the budget of a batch, in padded seconds.
        window: the maximum number of waiting items; also how far a batch can be from the input's order.
        max_items: the maximum number of items in a batch.
        multiple_of: larger numbers of items are rounded down to a multiple of this; batches at the end, and batches of
            aged items, may be smaller.
        max_age: an item that has waited for this number of refills (of an eighth of the window) is cut next.
        cost: the cost that is compared with `max_batch_s` in place of padded seconds.
        largest_first: of the batches that are cut together, those with the most items come first. Graphs captured for
            one batch are then large enough for the next.
        drop_remainder: drop the items that do not fill a batch at the end, and report them as dropped.
        scale: returns a factor on the budget for a length, such as `BatchController.scale`.
    """

    max_batch_s: float = attrs.field(default=200.0, validator=number(above=0))
    cost: CostModel = attrs.field(default=PADDED_SECONDS, validator=cost_model, kw_only=True)

    def _budget(self) -> tuple[float, CostModel]:
        return self.max_batch_s, self.cost


@attrs.frozen
class MemoryBatcher(_WindowBatcher):
    """Cuts batches that need at most `budget_bytes` by a cost model, and otherwise works like `LengthBatcher`.

    With attention, a second of a short clip needs less memory than one of a long clip: within the same peak, there are
    1.3 to 2 times fewer batches than with a budget of padded seconds that is safe for the longest clip.

    Args:
        budget_bytes: the memory that a batch may use, not counting the weights.
        cost: fitted on the device to measured peaks (`CostModel.fit`), in bytes.
    """

    budget_bytes: float = attrs.field(validator=number(above=0))
    cost: CostModel = attrs.field(validator=cost_model)

    def _budget(self) -> tuple[float, CostModel]:
        return self.budget_bytes, self.cost
