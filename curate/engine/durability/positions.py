"""Positions in a phase's input: sets and ranges of them, and their numbering, which stays stable under retries.

The records that a phase keeps are the input of the next phase, and commits identify records by their position in it.
If positions were simply counted, a record that a retry keeps would shift all later ones. So an input that failed, as a
whole or in part, leaves a *gap* in the numbering of the next phase: `GAP` positions, of which the records that were
kept of this input take the first ones, often none. A retry fills the gap differently, and other positions stay.

    kept by the phase before     a b (c failed) d       a b c d            (c was retried)
    positions                    0 1            2+GAP   0 1 2 2+GAP

Gaps are inherited: in the phase after that, the descendants of a gap's records are in a gap again.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count, islice
from operator import sub
from typing import Any, NamedTuple, TypeAlias, cast, overload

import attrs

Range: TypeAlias = "tuple[int, int, int]"
"""First and last position, and the number of rows that the records from first to last have become."""


_TOGETHER = 512
"""The number of ranges that are compressed together."""

_FEW = 16
"""At most this many ranges are kept as they are: those of a unit whose records finished in order."""

_CODES = (("H", 1 << 16), ("I", 1 << 32), ("q", 1 << 63))
"""Types of array, with the number that is too large for each."""


class Ranges(Sequence[Range]):
    """A compact sequence of ascending ranges.

    A phase with a hundred workers that finish in any order has nearly as many ranges as records, so they are kept as
    compressed differences: about two bytes a range, where the numbers themselves take 24.
    """

    __slots__ = ("_few", "_firsts", "_length", "_packed")

    def __init__(self, ranges: Iterable[Sequence[int]] = ()) -> None:
        self._packed: list[bytes] = []
        self._firsts = array("q")
        self._few = array("q")
        self._length = 0
        found = iter(ranges)
        while some := list(islice(found, _TOGETHER)):
            if len(some) <= _FEW and not self._packed:
                self._few.extend(chain.from_iterable(some))
                self._length = len(self._few) // 3
                return
            first, _, _ = some[0]
            self._firsts.append(first)
            self._packed.append(_pack(some))
            self._length += len(some)

    @overload
    def __getitem__(self, index: int) -> Range: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Range]: ...
    def __getitem__(self, index: int | slice) -> Range | Sequence[Range]:
        if isinstance(index, slice):
            return list(self)[index]
        place = range(self._length)[index]
        some = self if self._few else self._unpacked(place // _TOGETHER)
        return next(islice(some, place % _TOGETHER, None))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Range]:
        if not self._packed:
            numbers = iter(self._few)
            return zip(numbers, numbers, numbers, strict=True)
        return chain.from_iterable(map(self._unpacked, range(len(self._packed))))

    def _unpacked(self, number: int) -> Iterator[Range]:
        return _unpack(self._firsts[number], self._packed[number])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and (self._few, self._packed) == (other._few, other._packed)

    def __hash__(self) -> int:
        return hash((self._few.tobytes(), *self._packed))

    def __repr__(self) -> str:
        return f"Ranges({list(self)!r:.200})"

    def rows_at(self, position: int) -> int:
        """Return the number of rows of the range that begins at a position."""
        number = bisect_right(self._firsts, position) - 1
        found = self if self._few else self._unpacked(number) if number >= 0 else ()
        return next((rows for first, _, rows in found if first == position), 0)


def _pack(ranges: Sequence[Sequence[int]]) -> bytes:
    """Return ranges as compressed differences, in the narrowest type that holds them."""
    firsts, lasts, rows = map(list, zip(*ranges, strict=True))
    gaps = map(sub, firsts, chain(firsts[:1], lasts))
    numbers = [*gaps, *map(sub, lasts, firsts), *rows]
    if min(numbers) < 0:
        raise ValueError("the ranges do not ascend")
    code = next(code for code, end in _CODES if max(numbers) < end)
    return code.encode() + zlib.compress(_array_of(code, numbers).tobytes(), 1)


def _array_of(code: str, content: Iterable[int] | bytes) -> array[int]:
    return cast("Any", array)(code, content)


def _unpack(first: int, packed: bytes) -> Iterator[Range]:
    numbers = _array_of(packed[:1].decode(), zlib.decompress(packed[1:]))
    count = len(numbers) // 3
    last = first
    for gap, length, rows in zip(numbers[:count], numbers[count : 2 * count], numbers[2 * count :], strict=True):
        first = last + gap
        last = first + length
        yield first, last, rows


class Intervals:
    """A set of positions, built from inclusive `(first, last)` intervals.

    Args:
        intervals: the intervals, in any order.
        ascending: whether they ascend, so that only what they are together is held in memory.
    """

    def __init__(self, intervals: Iterable[tuple[int, int]] = (), *, ascending: bool = False) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in intervals if ascending else sorted(intervals):
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

    def covers(self, first: int, last: int) -> bool:
        """Return whether the set has all positions from the first to the last."""
        place = bisect_right(self._firsts, first) - 1
        return place >= 0 and last <= self._lasts[place]

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


GAP = 1 << 32
"""The number of positions in a gap; an input has fewer descendants."""


@attrs.frozen
class InputPositions:
    """The positions of a phase's input.

    Args:
        runs: `(first position, number of records)`, ascending; None: positions are counted from 0 to an unknown end.
        retry_gaps: the first positions of the gaps, ascending.
        gap_origins: for every gap, the gap or the failed input of the phase before that it stands for.
    """

    runs: tuple[tuple[int, int], ...] | None = None
    retry_gaps: tuple[int, ...] = ()
    gap_origins: tuple[int, ...] = ()

    def __iter__(self) -> Iterator[int]:
        """Yield the position of every record, in order."""
        if self.runs is None:
            return count()
        return chain.from_iterable(range(first, first + records) for first, records in self.runs)

    @property
    def total(self) -> int | None:
        """The number of records; None if unknown."""
        return None if self.runs is None else sum(records for _, records in self.runs)

    def gap_of(self, position: int) -> int | None:
        """Return the first position of the gap that a position lies in, or None."""
        place = bisect_right(self.retry_gaps, position) - 1
        return self.retry_gaps[place] if place >= 0 and position < self.retry_gaps[place] + GAP else None

    def holds_exactly(self, done: Intervals) -> bool:
        """Return whether `done` is exactly the set of positions; if they are counted, whether none is missing."""
        if self.runs is None:
            return len(done) == done.end
        return list(done) == list(Intervals((first, first + records - 1) for first, records in self.runs if records))


def positions_after(before: InputPositions, ranges: Iterable[Range], apart: frozenset[int]) -> InputPositions:
    """Return the positions of the records that a phase has kept, which are the input of the next phase.

    Args:
        before: the positions of the phase's own input.
        ranges: its finished ranges, ascending.
        apart: the positions of inputs that failed, now or before a retry.
    """
    runs: list[tuple[int, int]] = []
    retry_gaps: list[int] = []
    gap_origins: list[int] = []
    for placed in _placed(before, ranges, apart):
        if placed.opens_gap:
            retry_gaps.append(placed.position)
            gap_origins.append(placed.origin)
        elif runs and sum(runs[-1]) == placed.position:
            runs[-1] = runs[-1][0], runs[-1][1] + placed.rows
        else:
            runs.append((placed.position, placed.rows))
    return InputPositions(tuple(runs), tuple(retry_gaps), tuple(gap_origins))


def row_positions(
    before: InputPositions, ranges: Iterable[Range], apart: frozenset[int]
) -> Iterator[tuple[int, int, int]]:
    """Yield the first position of each range with rows, the position of its first row in the input of the next phase,
    and the number of its rows; for the arguments see `positions_after`.
    """
    return (
        (placed.origin, placed.position, placed.rows)
        for placed in _placed(before, ranges, apart)
        if not placed.opens_gap
    )


class _Placed(NamedTuple):
    """A gap (`opens_gap`), or the rows of the range that begins at `origin`, at a position of the next phase."""

    position: int
    rows: int
    origin: int
    opens_gap: bool = False


def _placed(before: InputPositions, ranges: Iterable[Range], apart: frozenset[int]) -> Iterator[_Placed]:
    # The ranges are walked in ascending order, with `end` after the last record or gap so far. A range lies in an
    # inherited gap (before `left`), where its rows go to the next free positions of the new gap (`filled`); or it is
    # an input that failed, which opens a gap of its own; or it appends its rows at `end`. Only the last case moves
    # `end` by the number of rows, so a retry, which changes rows inside gaps only, leaves all other positions as they
    # are. Gaps without a range are opened all the same, so that their number does not depend on their content.
    end = 0
    inherited, left, filled = iter(before.retry_gaps), -1, -1
    coming = next(inherited, None)
    for first, _, rows in ranges:
        while coming is not None and coming <= first:
            yield _Placed(end, 0, coming, opens_gap=True)
            left, filled = coming + GAP, end
            end += GAP
            coming = next(inherited, None)
        if first < left:
            place = filled
            filled += rows
        elif first in apart:
            yield _Placed(end, 0, first, opens_gap=True)
            place = end
            end += GAP
        else:
            place = end
            end += rows
        if rows:
            yield _Placed(place, rows, first)
    while coming is not None:
        yield _Placed(end, 0, coming, opens_gap=True)
        end += GAP
        coming = next(inherited, None)
