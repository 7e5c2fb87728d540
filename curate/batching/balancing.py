"""Balancing of work across GPUs: parts of about equal cost, and datasets mixed by weight."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from curate.errors import PlanError

Result = TypeVar("Result")


def balance(costs: Iterable[float], parts: int) -> list[list[int]]:
    """Return `parts` lists of indices whose costs are about equal, each in the order of the input.

    Each item, most expensive first, goes to the part with the least cost so far (longest processing time first). The
    most expensive part then costs at most 4/3 of its cost in an optimal division, and at most the mean plus one item.
    Equal costs always give equal parts. The function holds a number for each item, so balance a stream window by
    window.

    Args:
        costs: the cost of each item, such as its seconds or its cost by a `CostModel`; 0 or more.
        parts: the number of parts; some are empty if there are fewer items.

    Raises:
        PlanError: a cost or the number of parts is out of range.
    """
    if parts < 1:
        raise PlanError(f"parts={parts}: must be at least 1")
    ranked: list[tuple[float, int]] = []
    for index, cost in enumerate(costs):
        if not 0 <= cost < math.inf:
            raise PlanError(f"item {index} costs {cost!r}: a cost must be a finite number of at least 0")
        ranked.append((-cost, index))
    ranked.sort()
    divided: list[list[int]] = [[] for _ in range(parts)]
    least = [(0.0, 0, part) for part in range(parts)]
    for negative, index in ranked:
        total, count, part = heapq.heappop(least)
        divided[part].append(index)
        heapq.heappush(least, (total - negative, count + 1, part))
    for indices in divided:
        indices.sort()
    return divided


def merge_balanced(parts: Sequence[Sequence[int]], results: Sequence[Sequence[Result]]) -> list[Result]:
    """Return the results of all parts in the original order of the items.

    Args:
        parts: the parts from `balance`.
        results: for each part, one result for each of its items.

    Raises:
        ValueError: a part has more or fewer results than items, or the parts do not contain every item once.
    """
    by_index: dict[int, Result] = {}
    for number, (indices, of_part) in enumerate(zip(parts, results, strict=True)):
        if len(indices) != len(of_part):
            raise ValueError(f"part {number} has {len(of_part)} results for {len(indices)} items")
        by_index.update(zip(indices, of_part, strict=True))
    count = sum(map(len, parts))
    if by_index.keys() != set(range(count)):
        raise ValueError(f"the parts hold {count} items, but not each of 0 to {count - 1} once")
    return [by_index[index] for index in range(count)]


def mix(durations: Mapping[str, Iterable[float]], weights: Mapping[str, float]) -> Iterator[tuple[str, int]]:
    """Yield (dataset, index) so that the audio taken from each dataset is in proportion to its weight at any time.

    Weights apply to seconds, not to items: a dataset of long recordings does not get more than its share. When a
    dataset ends, the others divide its share; every item of every dataset is yielded once, in the dataset's order.
    The order is deterministic, and one length of each dataset is read at a time, so datasets may be endless.

    Args:
        durations: the lengths of each dataset, in seconds, above 0.
        weights: the weight of each dataset, above 0.

    Raises:
        PlanError: a weight is missing, out of range, or for an unknown dataset; or a length is not above 0, which
            would exempt its dataset from the weights.
    """
    if durations.keys() != weights.keys():
        odd = sorted(durations.keys() ^ weights.keys())
        raise PlanError(
            f"every dataset needs a weight, and every weight a dataset; {', '.join(odd)} has only one of them"
        )
    for name, weight in weights.items():
        if not 0 < weight < math.inf:
            raise PlanError(f"the weight {weight!r} of {name}: must be a number above 0")
    lengths = {name: enumerate(of_dataset) for name, of_dataset in durations.items()}
    due = [(0.0, number, name) for number, name in enumerate(lengths)]
    while due:
        taken, number, name = heapq.heappop(due)
        item = next(lengths[name], None)
        if item is None:
            continue
        index, length_s = item
        if not 0 < length_s < math.inf:
            raise PlanError(f"item {index} of {name} is {length_s!r} s long: must be a number of seconds above 0")
        yield name, index
        heapq.heappush(due, (taken + length_s / weights[name], number, name))
