"""Scores of a plan: its padding, its fill, and whether every item is in exactly one batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from curate.batching.costs import PADDED_SECONDS, TOLERANCE, CostModel


@attrs.frozen
class Score:
    """The figures of one plan.

    Args:
        items: indices in all batches together.
        batches: their number.
        audio_s: the total length of all items, in seconds.
        padded_s: the seconds that the model has to process: items × longest, over all batches.
        waste: padding as a share of the audio in the batches; 0.0 means no padding.
        fill: the mean share of the budget that a batch uses.
        over_budget: batches of several items that cost more than the budget.
        oversized: single items that alone cost more than the budget; each forms a batch alone.
        lost: items that are in no batch, including those dropped on purpose.
        duplicated: items that occur more than once.
        invented: indices that do not belong to an item.
        worst: the largest share of the budget that a batch uses.
    """

    items: int
    batches: int
    audio_s: float
    padded_s: float
    waste: float
    fill: float
    over_budget: int
    oversized: int
    lost: int
    duplicated: int
    invented: int
    worst: float


def score(
    batches: Iterable[Sequence[int]],
    durations: Sequence[float],
    max_batch_s: float = 200.0,
    *,
    cost: CostModel = PADDED_SECONDS,
) -> Score:
    """Return the figures of a plan for `durations` (seconds, all of them known) and a budget.

    Args:
        batches: indices into `durations`.
        durations: lengths in seconds.
        max_batch_s: the budget of a batch, in the unit of `cost`.
        cost: the cost that is compared with the budget.
    """
    seen = [0] * len(durations)
    count = items = invented = over_budget = oversized = 0
    padded_s = batched_s = used = worst = 0.0
    for batch in batches:
        count += 1
        items += len(batch)
        lengths: list[float] = []
        for index in batch:
            if 0 <= index < len(seen):
                seen[index] += 1
                lengths.append(float(durations[index]))
            else:
                invented += 1
        longest_s = max(lengths, default=0.0)
        share = cost.cost(len(batch), longest_s) / max_batch_s
        if share > 1 + 2 * TOLERANCE:
            over_budget += len(batch) > 1
            oversized += len(batch) == 1
        padded_s += len(batch) * longest_s
        batched_s += sum(lengths)
        used += share
        worst = max(worst, share)
    return Score(
        items=items,
        batches=count,
        audio_s=float(sum(map(float, durations))),
        padded_s=padded_s,
        waste=padded_s / batched_s - 1 if batched_s else 0.0,
        fill=used / count if count else 0.0,
        over_budget=over_budget,
        oversized=oversized,
        lost=sum(times == 0 for times in seen),
        duplicated=sum(times > 1 for times in seen),
        invented=invented,
        worst=worst,
    )
