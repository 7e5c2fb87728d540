"""Changes the budget of a batch by what happened to the batches before: smaller when memory ran out, larger again."""

from __future__ import annotations

import math
from collections import deque

import attrs

from curate.batching.costs import ITEMS, PADDED_SECONDS, CostModel
from curate.errors import PlanError

SHRINK = 0.8
RECOVER = 1.05
PATIENCE = 32
"""Clean batches after which a budget recovers by one step."""

LARGEST_STEP = 1.5
"""By how much a budget grows at once when there is memory left; padding to new shapes has surprises."""

HISTORY = 1000
"""Changes that are kept."""


@attrs.frozen
class Adjustment:
    """One change of a budget.

    Args:
        batch: how many batches had been reported, this one included.
        from_s: the length class, in seconds, from this …
        to_s: … to below this.
        reason: `oom`, `recovered`, `grew` or `above target`.
        before: factor on the budget.
        after: factor on the budget.
    """

    batch: int
    from_s: float
    to_s: float
    reason: str
    before: float
    after: float


@attrs.define
class _LengthClass:
    """What is known of batches whose longest item is within a factor of √2."""

    scale: float = 1.0
    clean: int = 0
    peak_share: float | None = None
    had_oom: bool = False


class BatchController:
    """Holds a factor on the budget for each class of lengths.

    After an OOM the class's factor shrinks by 0.8, down to one item; after 32 clean batches it recovers by 1.05.
    With a target it also grows, as far as the peaks that are reported leave room, and shrinks when they are above it.
    A short clip's OOM says little about long clips, whose kernels and fragmentation differ; hence the classes.

    Plan with `LengthBatcher(controller.budget, cost=controller.cost, scale=controller.scale)`, and hold each batch,
    planned perhaps before the last OOM, against `most(longest_s)`.

    Args:
        budget: the budget that the factors belong to, in the unit of `cost`.
        cost: what is held against it.
        lowest: the smallest factor; a budget is never below one item anyway.
        highest: the largest factor; above 1 it is reached only with a target.
        target_share: the share of the device's memory that a batch's peak should reach. None: never grow.
    """

    def __init__(
        self,
        budget: float = 200.0,
        cost: CostModel = PADDED_SECONDS,
        *,
        lowest: float = 0.0,
        highest: float = 4.0,
        target_share: float | None = None,
    ) -> None:
        if not budget > 0 or not 0 <= lowest <= 1 <= highest:
            raise PlanError(
                f"budget={budget:g}, lowest={lowest:g}, highest={highest:g}: the budget is above 0, and the factors "
                "have 1 between them"
            )
        if target_share is not None and not 0 < target_share < 1:
            raise PlanError(f"target_share={target_share:g}: a share of the memory is between 0 and 1")
        self.budget = budget
        self.cost = cost
        self.batches = 0
        self.ooms = 0
        self.history: deque[Adjustment] = deque(maxlen=HISTORY)
        self._untold: deque[Adjustment] = deque(maxlen=HISTORY)
        self._lowest = lowest
        self._highest = highest if target_share is not None else 1.0
        self._target_share = target_share
        self._classes: dict[int, _LengthClass] = {}

    @classmethod
    def by_size(
        cls,
        initial_batch_size: int = 32,
        min_batch_size: int = 4,
        max_batch_size: int = 128,
        *,
        target_share: float | None = None,
    ) -> BatchController:
        """Return a controller whose budget is a number of items.

        An OOM never makes a batch smaller than `min_batch_size`; whoever runs one that fails again splits it
        (`run_splitting`), so a lasting OOM ends with single items and never in a loop.
        """
        if not 1 <= min_batch_size <= initial_batch_size <= max_batch_size:
            raise PlanError(
                f"min_batch_size={min_batch_size}, initial_batch_size={initial_batch_size}, "
                f"max_batch_size={max_batch_size}: none may be above the next, and the first is at least 1"
            )
        return cls(
            float(initial_batch_size),
            ITEMS,
            lowest=min_batch_size / initial_batch_size,
            highest=max_batch_size / initial_batch_size,
            target_share=target_share,
        )

    def scale(self, length_s: float) -> float:
        """Return the factor on the budget of a batch whose longest item has `length_s` seconds."""
        found = self._classes.get(_class_of(length_s))
        return found.scale if found else 1.0

    def most(self, length_s: float) -> int:
        """Return how many items of `length_s` seconds may be in a batch now; at least 1."""
        return max(1, self.cost.most(self.budget * self.scale(length_s), length_s))

    def oom(self, n: int, length_s: float) -> None:
        """Take note that n items, the longest of `length_s` seconds, did not fit into memory."""
        self.batches += 1
        self.ooms += 1
        found = self._class(length_s)
        found.had_oom = True
        one_item = self.cost.cost(1, length_s) / self.budget
        # never below one item, and never upwards: a lone item that fails leaves the factor as it is
        self._change(length_s, "oom", max(min(found.scale, one_item), found.scale * SHRINK))

    def clean(self, n: int, length_s: float, peak_share: float | None = None) -> None:
        """Take note that a batch was done.

        Args:
            n: its items.
            length_s: the longest, in seconds.
            peak_share: the share of the device's memory at the peak of this batch alone (reset the device's counter
                before each). A peak since the start of the process would stay high for ever.
        """
        self.batches += 1
        found = self._class(length_s)
        target = self._target_share
        if target is not None and peak_share is not None and peak_share > target:
            one_item = min(found.scale, self.cost.cost(1, length_s) / self.budget)
            factor = max(SHRINK, target / peak_share)
            self._change(length_s, "above target", max(one_item, found.scale * factor))
            return
        if 2 * n < self.most(length_s):
            return  # a remainder that fits proves nothing about full batches
        found.clean += 1
        if peak_share is not None:
            found.peak_share = max(peak_share, found.peak_share or 0.0)
        if found.clean < PATIENCE:
            return
        if found.scale < 1.0:
            self._change(length_s, "recovered", min(1.0, found.scale * RECOVER))
        elif target is not None and found.peak_share and found.peak_share * RECOVER <= target:
            step = RECOVER if found.had_oom else min(LARGEST_STEP, target / found.peak_share)
            self._change(length_s, "grew", found.scale * step)
        else:
            found.clean, found.peak_share = 0, None

    def take_changes(self) -> list[Adjustment]:
        """Return the changes since the last call, for whoever adds them up."""
        changes = list(self._untold)
        self._untold.clear()
        return changes

    def _class(self, length_s: float) -> _LengthClass:
        return self._classes.setdefault(_class_of(length_s), _LengthClass())

    def _change(self, length_s: float, reason: str, wanted: float) -> None:
        found = self._class(length_s)
        before, found.scale = found.scale, min(self._highest, max(self._lowest, wanted))
        found.clean, found.peak_share = 0, None
        if found.scale != before:
            number = _class_of(length_s)
            change = Adjustment(self.batches, 2 ** (number / 2), 2 ** ((number + 1) / 2), reason, before, found.scale)
            self.history.append(change)
            self._untold.append(change)


def _class_of(length_s: float) -> int:
    """Return the number of a length's class: two to the octave."""
    return math.floor(2 * math.log2(max(length_s, 1e-3)))
