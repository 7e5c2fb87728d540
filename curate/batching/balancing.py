"""Divides work among several cards: parts of about equal cost, and several datasets by weight."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from curate.errors import PlanError

Result = TypeVar("Result")


def balance(costs: Iterable[float], parts: int) -> list[list[int]]:
    """Return `parts` lists of indices whose costs are about equal, each in the order of the input.

    The dearest item that is left goes to the part that has least (longest processing time first). The dearest part
    then costs at most 4/3 of what it would in the best division there is, and at most the mean and one item. The
    same costs always give the same parts. Holds a number for each item; a stream is balanced window by window.

    Args:
        costs: of each item, such as its seconds, or what a `CostModel` says of it; 0 or more.
        parts: how many; there are empty ones if there are fewer items.

    Raises:
        PlanError: a cost or the number of parts is out of range.
    """
    if parts < 1:
        raise PlanError(f"parts={parts}: must be at least 1")
    ranked: list[tuple[float, int]] = []
    for index, cost in enumerate(costs):
        if not 0 <= cost < math.inf:
            raise PlanError(f"item {index} costs {cost!r}: a cost is a finite number of at least 0")
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
    """Return the results of the parts in the order of the items that `balance` has divided.

    Args:
        parts: what `balance` returned.
        results: of each part, one result for each of its items.

    Raises:
        ValueError: a part has more or fewer results than items, or the parts do not hold every item once.
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

    Weights are of seconds, not of items: a dataset of long recordings does not get more than its share. One that has
    ended leaves its share to the others, and every item of every dataset is yielded once, in the dataset's order.
    Nothing is drawn by lot, and one length of each dataset is read at a time, so they may be endless.

    Args:
        durations: the lengths of each dataset, in seconds, above 0.
        weights: of each dataset, above 0.

    Raises:
        PlanError: a weight is missing, out of range, or for no dataset; or a length is not above 0, which would let
            its dataset through as a whole.
    """
    if durations.keys() != weights.keys():
        odd = sorted(durations.keys() ^ weights.keys())
        raise PlanError(
            f"every dataset has a weight, and every weight a dataset; {', '.join(odd)} has one of them only"
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
