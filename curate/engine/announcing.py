"""How a worker says which records it is about to touch, so that its death is blamed on these and not on the rest."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from curate.engine.messages import Work
from curate.records import ID

CAPACITY = 1024
"""So many records of one stage are told apart; a stage that announces more may be at any record of the batch."""

_ANY = (1 << 63) - 1


class Announcer(Protocol):
    """Who is told. The records are named by the ids under which they, or their ancestors, have come with the batch."""

    def begin(self, work: Work) -> None:
        """A batch is begun; nothing of it is touched yet."""
        ...

    def announce(self, stage: int, roots: Sequence[str]) -> None:
        """The hop's stage of this number is about to touch these records, and no others."""
        ...

    def one_by_one(self, stage: int, roots: Sequence[str]) -> Iterator[None]:
        """Announce these records one after the other, each alone: the next one at every step, which costs little."""
        ...

    def rest(self, stage: int) -> None:
        """The stage touches nothing until it announces something again."""
        ...


class Page:
    """An announcer that writes into memory which its driver reads, even when the worker is gone or hangs.

    A word is the batch's number; every stage then has a count and as many positions in the batch. A store is a word, so
    a worker that dies between two of them leaves a record too many at the worst.

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
        return 1 + stages * (1 + CAPACITY)

    def begin(self, work: Work) -> None:
        words = self._words
        for stage in range(1, len(words), 1 + CAPACITY):
            words[stage] = 0
        words[0] = work.number
        self._ids, self._places = [record[ID] for record in work.records], None

    def announce(self, stage: int, roots: Sequence[str]) -> None:
        words, place = self._words, 1 + stage * (1 + CAPACITY)
        if len(roots) > CAPACITY:
            words[place] = _ANY
            return
        words[place] = 0
        for offset, position in enumerate(self._positions(roots), start=place + 1):
            words[offset] = position
        words[place] = len(roots)

    def one_by_one(self, stage: int, roots: Sequence[str]) -> Iterator[None]:
        words, place = self._words, 1 + stage * (1 + CAPACITY)
        positions = self._positions(roots)
        if positions:
            words[place + 1] = positions[0]
            words[place] = 1
        return map(words.__setitem__, itertools.repeat(place + 1), positions)  # a generator takes twice as long

    def rest(self, stage: int) -> None:
        self._words[1 + stage * (1 + CAPACITY)] = 0

    def _positions(self, roots: Sequence[str]) -> Sequence[int]:
        """Return the positions in the batch of records; nearly always these are all of them, in order."""
        if roots == self._ids:
            return range(len(roots))
        if self._places is None:
            self._places = {identity: position for position, identity in enumerate(self._ids)}
        return [self._places[root] for root in roots]


def read_page(words: Sequence[int]) -> tuple[int, Mapping[int, Sequence[int] | None]]:
    """Return what a page says: the batch's number, and for every stage that has announced something the positions of
    the records in the batch; None for any of them.
    """
    announced: dict[int, Sequence[int] | None] = {}
    for stage, place in enumerate(range(1, len(words), 1 + CAPACITY)):
        count = words[place]
        if count:
            announced[stage] = None if count > CAPACITY else tuple(words[place + 1 : place + 1 + count])
    return words[0], announced
