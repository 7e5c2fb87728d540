"""The activity of a worker: it announces the records that it is about to process, which are the suspects of a crash."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Protocol

CAPACITY = 1024
"""The maximum number of announced records of a stage, unless they are neighbours; with more, any record of the batch is
a suspect.
"""

_ANY = (1 << 63) - 1
_RANGE, _START, _COUNT = 1 << 63, 32, (1 << 32) - 1
"""A count with this bit also contains the start of a range of neighbours, in its upper half: one store suffices."""


class ActivityReporter(Protocol):
    """The receiver of announcements. A record is identified by its position, or its ancestor's, in the batch."""

    def begin(self, number: int, ids: list[str]) -> None:
        """A batch of records with these ids begins; none of them is processed yet."""
        ...

    def positions(self, roots: Sequence[str]) -> Sequence[int]:
        """Return the positions in the batch of the records with these ids."""
        ...

    def announce(self, stage: int, positions: Sequence[int]) -> None:
        """The hop's stage with this number is about to process the records at these positions, and no others."""
        ...

    def idle(self, stage: int) -> None:
        """The stage processes no record until its next announcement."""
        ...

    def progress(self) -> None:
        """The worker has made progress with what it has announced. Called from any thread."""
        ...


class SharedActivity:
    """A reporter in shared memory, which the driver can read even when the worker has ended or hangs.

    The first word is the batch's number; every stage then has a count and as many positions in the batch, or a range of
    them in a single word. Each store writes one word, so a worker that dies between two stores leaves at worst one
    suspect too many.
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
        """Return the number of words for a hop with this number of stages."""
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
    """Return the batch's number, and for every stage with an announcement the positions of its records in the batch;
    None stands for any position.
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
