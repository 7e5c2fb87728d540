"""Which partition of a mixture comes next: weights in hours, and draws that are corrected by the hours still owed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

_Name = TypeVar("_Name")

SLACK_S = 600.0
"""The audio over which draws are left to chance, at least; then the chances follow what the partitions are owed."""

_RECORDS_EACH = 4
"""The same in records of each partition, for a mixture of many partitions, whose shares of `SLACK_S` are shorter."""

_FIRST_DRAWS = 16
"""The draws of the first block, while it is not known how long records are; each later block has at most twice more."""


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

    Partitions are drawn in blocks. The chances of a block are what each partition is owed by its end, in records of its
    mean length, so a block corrects the one before, and the seconds taken never depend on how long records are. The
    caller adds the length of each record that it takes to `taken_s`, and one to `records`.

    Args:
        weights: the share of each partition, by its number.
        seed: another number gives another order.
    """

    def __init__(self, weights: Sequence[float], seed: int) -> None:
        self._random = random.Random(seed)
        self._weights = list(weights)
        self._places = range(len(weights))
        self._open = [weight > 0 for weight in weights]
        self.taken_s = [0.0] * len(weights)
        """Seconds taken from each partition since the last one ended, for then the shares change."""
        self.records = [0] * len(weights)
        """Records taken from each partition since then."""
        self._mean_s = [1.0] * len(weights)
        self._renormalise()

    @property
    def has_ended(self) -> bool:
        """Whether all partitions have."""
        return not any(self._open)

    def block(self) -> list[int]:
        """Return the numbers of the partitions to take the next records from, in order.

        Raises:
            ValueError: all have ended.
        """
        if self.has_ended:
            raise ValueError("all partitions have ended")
        taken_s, shares = self.taken_s, self._shares
        self._mean_s = means_s = [
            taken / records if records and taken else mean_s
            for taken, records, mean_s in zip(taken_s, self.records, self._mean_s, strict=True)
        ]
        # shares are of seconds, so a record drawn has this length in the mean
        per_record_s = 1 / sum([share / mean_s for share, mean_s in zip(shares, means_s, strict=True)])
        slack_s = max(SLACK_S, _RECORDS_EACH * len(shares) * per_record_s)
        limit = sum(taken_s) + slack_s
        owed = [
            owed_s / mean_s if (owed_s := share * limit - taken) > 0 else 0.0
            for share, taken, mean_s in zip(shares, taken_s, means_s, strict=True)
        ]
        edges = list(accumulate(owed))
        # with more draws than the slack has records, a block would overshoot what it corrects
        draws = max(1, min(self._most_draws, int(slack_s / per_record_s)))
        self._most_draws = 2 * draws
        return self._random.choices(self._places, cum_weights=edges, k=draws)

    def end(self, place: int) -> None:
        """Note that a partition has no more records; the others share the rest in proportion to their weights."""
        self._open[place] = False
        if not self.has_ended:
            self._renormalise()

    def _renormalise(self) -> None:
        total = sum(weight for weight, is_open in zip(self._weights, self._open, strict=True) if is_open)
        self._shares = [
            weight / total if is_open else 0.0 for weight, is_open in zip(self._weights, self._open, strict=True)
        ]
        self.taken_s[:] = [0.0] * len(self._weights)
        self.records[:] = [0] * len(self._weights)
        self._most_draws = _FIRST_DRAWS
