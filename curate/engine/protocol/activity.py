"""How a worker says which records it is about to touch, so that its death is blamed on these and not on the rest."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Protocol

CAPACITY = 1024
"""So many records of one stage are told apart that are no neighbours; where there are more, it may be any of the batch.
"""

_ANY = (1 << 63) - 1
_RANGE, _START, _COUNT = 1 << 63, 32, (1 << 32) - 1
"""A count with this bit says where a range of neighbours starts as well, in its upper half: one store is enough."""


class ActivityReporter(Protocol):
    """Who is told. A record is named by the place in the batch at which it, or its ancestor, has come."""

    def begin(self, number: int, ids: list[str]) -> None:
        """A batch of records of these ids is begun; nothing of it is touched yet."""
        ...

    def positions(self, roots: Sequence[str]) -> Sequence[int]:
        """Return the positions in the batch of the records of these ids."""
        ...

    def announce(self, stage: int, positions: Sequence[int]) -> None:
        """The hop's stage of this number is about to touch the records at these positions, and no others."""
        ...

    def idle(self, stage: int) -> None:
        """The stage touches nothing until it announces something again."""
        ...

    def progress(self) -> None:
        """The worker has made progress with what it has announced. Called from any thread."""
        ...


class SharedActivity:
    """An announcer that writes into memory which its driver reads, even when the worker is gone or hangs.

    A word is the batch's number; every stage then has a count and as many positions in the batch, or a range of them in
    a single word. A store is a word, so a worker that dies between two of them leaves a record too many at the worst.
    The last word counts signs of progress, such as blocks of audio that are read: with each, the page changes, and the
    driver looks for no more than that.

    Args:
        words: shared memory, as unsigned 64-bit integers, of `words_for(stages)` words; all 0 at first.
    """

    def __init__(self, words: memoryview[int]) -> None:
        self._words = words
        self._ids: list[str] = []
        self._places: dict[str, int] | None = None

    @staticmethod
    def words_for(stages: int) -> int:
        """Return how many words the page of a hop with so many stages takes."""
        return 1 + stages * (1 + CAPACITY) + 1

    def begin(self, number: int, ids: list[str]) -> None:
        words = self._words
        for stage in range(1, len(words) - 1, 1 + CAPACITY):
            words[stage] = 0
        words[0] = number
        self._ids, self._places = ids, None

    def positions(self, roots: Sequence[str]) -> Sequence[int]:
        if roots == self._ids:  # nearly always
            return range(len(roots))
        if self._places is None:
            self._places = {identity: position for position, identity in enumerate(self._ids)}
        return [self._places[root] for root in roots]

    def announce(self, stage: int, positions: Sequence[int]) -> None:
        words, place = self._words, 1 + stage * (1 + CAPACITY)
        if isinstance(positions, range):
            words[place] = _RANGE | positions.start << _START | len(positions)
            return
        if len(positions) > CAPACITY:
            words[place] = _ANY
            return
        words[place] = 0
        words[place + 1 : place + 1 + len(positions)] = memoryview(array("Q", positions))
        words[place] = len(positions)

    def idle(self, stage: int) -> None:
        self._words[1 + stage * (1 + CAPACITY)] = 0

    def progress(self) -> None:
        words = self._words
        words[len(words) - 1] = (words[len(words) - 1] + 1) & _COUNT  # two threads may lose one count, but not both


def read_activity(words: Sequence[int]) -> tuple[int, Mapping[int, Sequence[int] | None]]:
    """Return what a page says: the batch's number, and for every stage that has announced something the positions of
    the records in the batch; None for any of them.
    """
    announced: dict[int, Sequence[int] | None] = {}
    for stage, place in enumerate(range(1, len(words) - 1, 1 + CAPACITY)):
        count = words[place]
        if count & _RANGE:
            start = (count ^ _RANGE) >> _START
            announced[stage] = range(start, start + (count & _COUNT))
        elif count:
            announced[stage] = None if count > CAPACITY else tuple(words[place + 1 : place + 1 + count])
    return words[0], announced
