"""Which partition of a mixture comes next: weights in hours, and draws that are corrected by the hours still owed."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

_Name = TypeVar("_Name")

SLACK_S = 600.0
"""The audio over which draws are left to chance: a partition is at most its share of this, and one record, ahead."""

_FIRST_REDRAWN, _REDRAWN = 16, 512
"""The number of draws after which the chances follow what the partitions are still owed: few at first, while it is not
known how long their records are, and then twice as many each time."""


def hours_weights(
    hours: Mapping[tuple[str, str], float], beta_corpus: float, beta_language: float
) -> dict[tuple[str, str], float]:
    """Return the share of the hours that each partition, a corpus and a language, should have.

    A corpus weighs its share of all hours to the power of `beta_corpus`, and inside it a language its share of the
    corpus to the power of `beta_language`: 1 is in proportion to the hours, 0 is equal for all.
    """
    of_corpus: dict[str, float] = {}
    for (corpus, _), found in hours.items():
        of_corpus[corpus] = of_corpus.get(corpus, 0.0) + found
    total = sum(of_corpus.values())
    corpora = normalised({corpus: (found / total) ** beta_corpus for corpus, found in of_corpus.items()})
    inside: dict[str, dict[tuple[str, str], float]] = {}
    for partition, found in hours.items():
        corpus = partition[0]
        inside.setdefault(corpus, {})[partition] = (found / of_corpus[corpus]) ** beta_language
    languages = {name: share for shares in inside.values() for name, share in normalised(shares).items()}
    return {partition: corpora[partition[0]] * languages[partition] for partition in hours}


def normalised(weights: Mapping[_Name, float]) -> dict[_Name, float]:
    """Return the weights with the sum 1."""
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


class HoursDraw:
    """Draws partitions at random, so that the seconds taken from each are in proportion to its weight.

    A partition is not drawn while it is ahead by more than its share of `SLACK_S`, and the chances of the others follow
    what they are owed. So the seconds taken never depend on how long the records of a partition are.

    Args:
        weights: the share of each partition, by its number.
        seed: another number gives another order.
    """

    def __init__(self, weights: Sequence[float], seed: int) -> None:
        self._random = random.Random(seed)
        self._weights = list(weights)
        self._open = [weight > 0 for weight in weights]
        self._taken = [0.0] * len(weights)
        """Seconds since the last partition ended, for then the shares change."""
        self._records = [0] * len(weights)
        self._mean_s = [1.0] * len(weights)
        self._renormalise()

    def next(self) -> int:
        """Return the number of a partition.

        Raises:
            IndexError: all have ended.
        """
        if self._draws_left <= 0:
            self._redraw()
        self._draws_left -= 1
        chance, edges, limit = self._random.random, self._edges, self._sum + SLACK_S
        taken, shares, whole = self._taken, self._shares, self._edges[-1]
        for _ in range(16):
            place = bisect(edges, chance() * whole)
            if taken[place] <= shares[place] * limit:
                return place
        self._redraw()
        return self._most_owed()

    def take(self, place: int, seconds: float) -> None:
        """Note that a record of a partition was taken."""
        self._taken[place] += seconds
        self._records[place] += 1
        self._sum += seconds

    def end(self, place: int) -> None:
        """Note that a partition has no more records; the others share the rest in proportion to their weights."""
        self._open[place] = False
        if any(self._open):
            self._renormalise()

    def _renormalise(self) -> None:
        total = sum(weight for weight, is_open in zip(self._weights, self._open, strict=True) if is_open)
        self._shares = [
            weight / total if is_open else 0.0 for weight, is_open in zip(self._weights, self._open, strict=True)
        ]
        self._taken = [0.0] * len(self._weights)
        self._records = [0] * len(self._weights)
        self._sum = 0.0
        self._draws_left = 0
        self._window = _FIRST_REDRAWN

    def _redraw(self) -> None:
        """Set the chances: the records that each partition is owed by the end of the slack."""
        limit = self._sum + SLACK_S
        self._mean_s = [
            taken / records if records else mean_s
            for taken, records, mean_s in zip(self._taken, self._records, self._mean_s, strict=True)
        ]
        owed = [
            max(0.0, share * limit - taken) / mean_s
            for share, taken, mean_s in zip(self._shares, self._taken, self._mean_s, strict=True)
        ]
        if not any(owed):
            most = self._most_owed()
            owed = [float(place == most) for place in range(len(owed))]
        self._edges = list(accumulate(owed))
        self._draws_left = self._window
        self._window = min(_REDRAWN, 2 * self._window)

    def _most_owed(self) -> int:
        limit = self._sum + SLACK_S
        owed = [
            (share * limit - taken if is_open else float("-inf"))
            for share, taken, is_open in zip(self._shares, self._taken, self._open, strict=True)
        ]
        return owed.index(max(owed))
