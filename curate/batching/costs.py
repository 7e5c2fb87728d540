"""The cost model of a batch: a fixed part, and for each item a part that grows with the length of the longest."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import product
from typing import TYPE_CHECKING, Any

import attrs

from curate.batching.validators import number
from curate.errors import PlanError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOLERANCE = 1e-9
"""Relative tolerance: n × L that was rounded in the last bits is not over the budget."""

UNBOUNDED = 2**40
"""The number of items that fit if an item costs nothing: more than any window holds."""


@attrs.frozen
class CostModel:
    """cost(n, L) = safety × (c0 + n × (per_item + a × L + b × L²)) for n items whose longest has L seconds.

    The unit is that of the budget: bytes, or padded seconds for `PADDED_SECONDS`. The square is that of attention, by
    which twice the length takes more than twice the memory.

    Args:
        c0: cost of a batch of any size. It does not include the weights, which are loaded before the batch.
        a: cost per item and second.
        b: cost per item and second squared.
        per_item: cost per item of any length.
        safety: the greatest ratio of a measured cost to the fitted one, at least 1.
    """

    c0: float = attrs.field(default=0.0, validator=number(least=0))
    a: float = attrs.field(default=1.0, validator=number(least=0))
    b: float = attrs.field(default=0.0, validator=number(least=0))
    per_item: float = attrs.field(default=0.0, validator=number(least=0), kw_only=True)
    safety: float = attrs.field(default=1.0, validator=number(least=1), kw_only=True)

    def cost(self, n: int, length_s: float) -> float:
        """Return the cost of n items whose longest has `length_s` seconds."""
        return self.safety * (self.c0 + n * (self.per_item + self.a * length_s + self.b * length_s * length_s))

    def max_items(self, budget: float, length_s: float) -> int:
        """Return the largest n whose cost is within the budget; 0 if one item already exceeds it."""
        item = self.safety * (self.per_item + self.a * length_s + self.b * length_s * length_s)
        room = budget * (1 + TOLERANCE) - self.safety * self.c0
        if room < item:
            return 0
        return UNBOUNDED if item * UNBOUNDED <= room else int(room / item)

    def caps(self, budgets: NDArray[np.float64] | float, lengths_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return `max_items` for many lengths, each with its own budget or all with the same."""
        import numpy as np

        item = self.safety * (self.per_item + lengths_s * (self.a + self.b * lengths_s))
        room = np.maximum(0.0, np.asarray(budgets) * (1 + TOLERANCE) - self.safety * self.c0)
        smallest = np.maximum(room / UNBOUNDED, np.finfo(np.float64).tiny)  # also avoids a division by 0
        return np.floor(room / np.maximum(item, smallest)).astype(np.int64)

    @classmethod
    def fit(cls, samples: Iterable[tuple[int, float, float]]) -> CostModel:
        """Fit c0, a and b, all at least 0, to measured costs.

        The fit minimises relative errors, so that small batches count as much as large ones; the greatest error
        becomes the safety, so that no sample costs more than the model predicts.

        Args:
            samples: (n, L in seconds, measured cost), preferably over a grid of n and L. The cost is that of the batch
                alone: the peak minus the memory allocated before, with the peak counter reset for each batch.

        Raises:
            PlanError: there are no samples, or one is not above 0.
        """
        import numpy as np

        table = np.array([tuple(map(float, sample)) for sample in samples], dtype=np.float64).reshape(-1, 3)
        if not len(table) or not bool(np.all(np.isfinite(table) & (table > 0))):
            raise PlanError("CostModel.fit needs samples (n, seconds, cost), at least one, and all numbers above 0")
        n, length_s, measured = table.T
        terms = np.stack([np.ones_like(n), n * length_s, n * length_s**2], axis=1)
        c0, a, b = _least_squares_from_zero(terms / measured[:, None])
        fitted = terms @ np.array([c0, a, b])
        return cls(c0, a, b, safety=max(1.0, float(np.max(measured / fitted))))


PADDED_SECONDS = CostModel()
"""Items × longest: the audio, with its padding, that the model has to process."""

ITEMS = CostModel(a=0.0, per_item=1.0)
"""The number of items, whatever their length."""


def cost_model(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """Accept a `CostModel` (a validator)."""
    if not isinstance(value, CostModel):
        raise PlanError(f"{field.name}={value!r}: must be a CostModel, such as CostModel.fit(samples)")


class Calibration:
    """A cost model that is refitted to the memory peaks of finished batches, in bounded memory.

    Of each kind of batch (n and L within a factor of √2) the most expensive sample is kept, so a low measurement never
    lowers the predicted cost.
    """

    def __init__(self, samples: Iterable[tuple[int, float, float]] = ()) -> None:
        self._worst: dict[tuple[int, int], tuple[int, float, float]] = {}
        for sample in samples:
            self.observe(*sample)

    def observe(self, n: int, length_s: float, cost: float) -> None:
        """Add one batch's measured cost: its own peak minus the memory allocated before it."""
        kind = (round(2 * math.log2(n)), round(2 * math.log2(length_s)))
        worst = self._worst.get(kind)
        if worst is None or cost / (n * length_s) > worst[2] / (worst[0] * worst[1]):
            self._worst[kind] = (n, length_s, cost)

    def model(self) -> CostModel:
        """Return the model fitted to all observations.

        Raises:
            PlanError: there are no observations yet.
        """
        return CostModel.fit(self._worst.values())


def _least_squares_from_zero(rows: NDArray[np.float64]) -> tuple[float, float, float]:
    """Solve rows @ x ≈ 1 by least squares with x ≥ 0."""
    import numpy as np

    # Non-negative least squares without scipy. In the optimum some of the three unknowns are 0 and the others solve
    # the unconstrained problem without them. So of the eight choices of unknowns, the best one with a non-negative
    # solution is the optimum.
    ones = np.ones(len(rows))
    scale = np.linalg.norm(rows, axis=0)
    best, best_error = np.zeros(3), math.inf
    for choice in product((True, False), repeat=3):
        used = np.flatnonzero(choice)
        solution = np.zeros(3)
        solution[used] = np.linalg.lstsq(rows[:, used] / scale[used], ones)[0]
        error = float(np.sum((rows / scale @ solution - ones) ** 2))
        if bool(np.all(solution >= 0)) and error < best_error:
            best, best_error = solution, error
    c0, a, b = (best / scale).tolist()
    return c0, a, b
