"""Sets of integers as sorted intervals, such as the finished records of a phase."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeAlias, overload

Range: TypeAlias = "tuple[int, int, int]"
"""First and last position, and the number of rows that the records from first to last have become."""


class Ranges(Sequence[Range]):
    """A compact sequence of ranges, 24 bytes each: a run of many workers that finish in any order has very many."""

    __slots__ = ("_numbers",)

    def __init__(self, ranges: Iterable[Sequence[int]] = ()) -> None:
        self._numbers = array("q", chain.from_iterable(ranges))

    @overload
    def __getitem__(self, index: int) -> Range: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Range]: ...
    def __getitem__(self, index: int | slice) -> Range | Sequence[Range]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        first, last, rows = self._numbers[3 * index : 3 * index + 3]
        return first, last, rows

    def __len__(self) -> int:
        return len(self._numbers) // 3

    def __iter__(self) -> Iterator[Range]:
        numbers = iter(self._numbers)
        return zip(numbers, numbers, numbers, strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._numbers == other._numbers

    def __hash__(self) -> int:
        return hash(self._numbers.tobytes())

    def __repr__(self) -> str:
        return f"Ranges({list(self)!r:.200})"

    def rows_at(self, position: int) -> int:
        """Return the number of rows of the range that begins at a position."""
        index = bisect_left(self, position, key=lambda found: found[0])
        first, _, rows = self[index] if index < len(self) else (-1, -1, 0)
        return rows if first == position else 0


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
        """The position after the last one; 0 for the empty set."""
        return self._lasts[-1] + 1 if self._lasts else 0

    def __contains__(self, position: int) -> bool:
        place = bisect_right(self._firsts, position) - 1
        return place >= 0 and position <= self._lasts[place]

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._lasts, strict=True)


def ranges_of(seqs: Sequence[int], row_seqs: Sequence[int], alone: Iterable[int] = ()) -> list[Range]:
    """Cut sorted positions into ranges without gaps and count the rows of each.

    Args:
        seqs: the positions of finished inputs, ascending.
        row_seqs: for every row, the position of its input, ascending.
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
