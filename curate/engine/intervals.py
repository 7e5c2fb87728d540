"""Sets of whole numbers as sorted intervals: which records of a phase are done."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

Range: TypeAlias = "tuple[int, int, int]"
"""First and last position, and how many rows the records from first to last have become."""


class Intervals:
    """A set of positions, built from inclusive `(first, last)` intervals."""

    def __init__(self, intervals: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in sorted(intervals):
            if self._lasts and first <= self._lasts[-1] + 1:
                self._lasts[-1] = max(self._lasts[-1], last)
            else:
                self._firsts.append(first)
                self._lasts.append(last)

    @property
    def end(self) -> int:
        """The position behind the last one; 0 for the empty set."""
        return self._lasts[-1] + 1 if self._lasts else 0

    def __contains__(self, position: int) -> bool:
        place = bisect_right(self._firsts, position) - 1
        return place >= 0 and position <= self._lasts[place]

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._lasts, strict=True)


def ranges_of(seqs: Sequence[int], row_seqs: Sequence[int], alone: Iterable[int] = ()) -> list[Range]:
    """Cut sorted positions into runs without gaps and count the rows of each.

    Args:
        seqs: the positions of finished roots, ascending.
        row_seqs: for every row, the position of its root, ascending.
        alone: positions that get a range of their own, so that a later unit can supersede them.
    """
    apart = set(alone)
    if seqs and not apart and seqs[-1] - seqs[0] + 1 == len(seqs):
        return [(seqs[0], seqs[-1], len(row_seqs))]
    runs: list[list[int]] = []
    for seq in seqs:
        if runs and seq == runs[-1][1] + 1 and seq not in apart and runs[-1][1] not in apart:
            runs[-1][1] = seq
        else:
            runs.append([seq, seq])
    counted: list[Range] = []
    position = 0
    for first, last in runs:
        begin = position
        while position < len(row_seqs) and row_seqs[position] <= last:
            position += 1
        counted.append((first, last, position - begin))
    return counted
