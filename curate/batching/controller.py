"""The batch controller: it lowers the budget of a batch after an OOM, and raises it again after successful batches."""

from __future__ import annotations

import math
from collections import deque

import attrs

from curate.batching.costs import ITEMS, PADDED_SECONDS, CostModel
from curate.errors import PlanError

SHRINK = 0.8
RECOVER = 1.05
PATIENCE = 32
"""Successful batches after which a budget recovers by one step."""

EAGER_PATIENCE = 4
"""The same for growth where the target is far: the next step leaves memory free, and no batch has run out of it."""

FAR_TOO_LARGE = 0.25
"""A budget of which even this share runs out of memory is far too large, whatever the length of the items."""

LARGEST_STEP = 1.5
"""The largest step by which a budget grows when memory is left: kernels for new shapes may need unexpected memory."""

HISTORY = 1000
"""The number of changes that are kept."""


@attrs.frozen
class Adjustment:
    """One change of a budget.

    Args:
        batch: the number of batches reported so far, including this one.
        from_s: the lower bound of the length class, in seconds.
        to_s: its upper bound, exclusive.
        reason: `oom`, `recovered`, `grew` or `above target`.
        before: the factor on the budget before the change.
        after: the factor on the budget after the change.
    """

    batch: int
    from_s: float
    to_s: float
    reason: str
    before: float
    after: float


@attrs.define
class _LengthClass:
    """The state of all batches whose longest items are within a factor of √2.

    Shares are costs as shares of the budget.
    """

    scale: float = 1.0
    successes: int = 0
    peak_share: float | None = None
    had_oom: bool = False
    largest_success: float = 0.0
    failed: float | None = None
    """The least share that ran out of memory since the last success."""


class BatchController:
    """Adapts the budget of a batch to the memory, by a factor for each class of lengths.

    After an OOM the class's factor shrinks by 0.8, down to one item; after 32 successful batches it recovers by 1.05.
    Where the parts of a batch run out of memory as well, it shrinks to 0.8 of the smallest of these when a part
    succeeds. If that is less than a quarter of the budget, lengths without experience begin there too. With a target it
    also grows, as far as the reported peaks leave room, and shrinks when they exceed the target.

    Plan with `LengthBatcher(controller.budget, cost=controller.cost, scale=controller.scale)`, and compare each batch
    with `max_items(longest_s)`, because it may have been planned before the last OOM.

    Args:
        budget: the budget that the factors apply to, in the unit of `cost`.
        cost: the cost that is compared with the budget.
        lowest: the smallest factor; the budget always allows one item.
        highest: the largest factor; above 1 it is reached only with a target.
        target_share: the share of the device's memory that a batch's peak should reach. None: never grow.
    """

    # Why these rules: a fast decrease and a slow recovery find the largest size that fits, as in TCP's congestion
    # control, and an OOM costs far more than a batch that is 5 % too small. The classes are separate because an OOM of
    # short clips does not predict one of long clips, whose kernels and fragmentation differ. Only a batch that is at
    # least half full counts as a success: a small remainder that fits does not show that a full batch would. Every
    # change restarts the count, so that each step is based on batches of the present size.

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
                f"budget={budget:g}, lowest={lowest:g}, highest={highest:g}: the budget must be above 0, and 1 must be "
                "between the factors"
            )
        if target_share is not None and not 0 < target_share < 1:
            raise PlanError(f"target_share={target_share:g}: must be between 0 and 1")
        self.budget = budget
        self.cost = cost
        self.batches = 0
        self.ooms = 0
        self.history: deque[Adjustment] = deque(maxlen=HISTORY)
        self._unreported: deque[Adjustment] = deque(maxlen=HISTORY)
        self._lowest = lowest
        self._highest = highest if target_share is not None else 1.0
        self._target_share = target_share
        self._classes: dict[int, _LengthClass] = {}
        self._first_scale = 1.0

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

        An OOM never makes a batch smaller than `min_batch_size`; a caller that runs such a batch out of memory again
        splits it (`run_splitting`), so a persistent OOM ends with single items and never in a loop.

        Raises:
            PlanError: the three sizes, in items, are not in ascending order from 1 on.
        """
        if not 1 <= min_batch_size <= initial_batch_size <= max_batch_size:
            raise PlanError(
                f"min_batch_size={min_batch_size}, initial_batch_size={initial_batch_size}, "
                f"max_batch_size={max_batch_size}: they must be in ascending order, and the first at least 1"
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
        return found.scale if found else self._first_scale

    def max_items(self, length_s: float) -> int:
        """Return how many items of `length_s` seconds a batch may have now; at least 1."""
        return max(1, self.cost.max_items(self.budget * self.scale(length_s), length_s))

    def record_oom(self, length_s: float, n: int | None = None) -> None:
        """Record that a batch whose longest item has `length_s` seconds did not fit into memory.

        Args:
            length_s: the length of its longest item.
            n: the number of its items, if the caller splits such a batch and reports its parts. None: a full batch.
        """
        self.batches += 1
        self.ooms += 1
        found = self._class(length_s)
        found.had_oom = True
        is_first = all(each.failed is None for each in self._classes.values())
        if n is not None:
            share = self.cost.cost(n, length_s) / self.budget
            found.failed = min(share, found.failed or share)
        if n == 1:  # the item alone is at fault: what failed with it shows nothing about others
            for each in self._classes.values():
                each.failed = None
        if n is None or is_first:
            self._change(length_s, "oom", self._at_least_one_item(found.scale, length_s, found.scale * SHRINK))

    def record_success(self, n: int, length_s: float, peak_share: float | None = None) -> None:
        """Record that a batch succeeded.

        Args:
            n: the number of its items.
            length_s: the length of the longest, in seconds.
            peak_share: the share of the device's memory at the peak of this batch alone (reset the device's counter
                before each batch). A peak since the start of the process would never fall again.
        """
        self.batches += 1
        found = self._class(length_s)
        self._learn_from_failures(self.cost.cost(n, length_s) / self.budget)
        found.largest_success = max(found.largest_success, self.cost.cost(n, length_s) / self.budget)
        target = self._target_share
        if target is not None and peak_share is not None and peak_share > target:
            wanted = found.scale * max(SHRINK, target / peak_share)
            self._change(length_s, "above target", self._at_least_one_item(found.scale, length_s, wanted))
            return
        if 2 * n < self.max_items(length_s):
            return
        found.successes += 1
        if peak_share is not None:
            found.peak_share = max(peak_share, found.peak_share or 0.0)
        if found.successes < (EAGER_PATIENCE if self._is_far_from_target(found) else PATIENCE):
            return
        if found.scale < 1.0:
            self._change(length_s, "recovered", min(1.0, found.scale * RECOVER))
        elif target is not None and found.peak_share and found.peak_share * RECOVER <= target:
            step = RECOVER if found.had_oom else min(LARGEST_STEP, target / found.peak_share)
            self._change(length_s, "grew", found.scale * step)
        else:
            found.successes, found.peak_share = 0, None

    def take_changes(self) -> list[Adjustment]:
        """Return the changes since the last call."""
        changes = list(self._unreported)
        self._unreported.clear()
        return changes

    def _learn_from_failures(self, success: float) -> None:
        """Shrink the classes whose batches failed before one of this share succeeded, unless larger ones had fitted."""
        for number, each in self._classes.items():
            failed, each.failed = each.failed, None
            if failed is None or failed <= max(success, each.largest_success):
                continue
            length_s = 2 ** ((number + 0.5) / 2)
            self._change(length_s, "oom", self._at_least_one_item(each.scale, length_s, failed * SHRINK))
            if failed < FAR_TOO_LARGE:
                self._first_scale = max(self._lowest, min(self._first_scale, failed * SHRINK))

    def _is_far_from_target(self, found: _LengthClass) -> bool:
        target, peak = self._target_share, found.peak_share
        if target is None or peak is None or found.had_oom or found.scale < 1.0:
            return False
        return peak * LARGEST_STEP <= target

    def _at_least_one_item(self, scale: float, length_s: float, wanted: float) -> float:
        """Return a smaller factor that allows one item: a single item that fails leaves the factor unchanged."""
        return min(scale, max(wanted, min(scale, self.cost.cost(1, length_s) / self.budget)))

    def _class(self, length_s: float) -> _LengthClass:
        return self._classes.setdefault(_class_of(length_s), _LengthClass(self._first_scale))

    def _change(self, length_s: float, reason: str, wanted: float) -> None:
        found = self._class(length_s)
        before, found.scale = found.scale, min(self._highest, max(self._lowest, wanted))
        found.successes, found.peak_share = 0, None
        if found.scale != before:
            number = _class_of(length_s)
            change = Adjustment(self.batches, 2 ** (number / 2), 2 ** ((number + 1) / 2), reason, before, found.scale)
            self.history.append(change)
            self._unreported.append(change)


def _class_of(length_s: float) -> int:
    """Return the number of a length's class: two classes to the octave."""
    return math.floor(2 * math.log2(max(length_s, 1e-3)))
