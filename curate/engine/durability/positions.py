"""Stable positions of a phase's input: they do not change when a failure in the phase before is retried later.

The records that a phase keeps are the input of the next phase, and commits identify records by their position in it.
If positions were simply counted, a record that a retry keeps would shift all later ones. So an input that failed, as a
whole or in part, leaves a *gap* in the numbering of the next phase: `GAP` positions, of which the records that were
kept of this input take the first ones, often none. A retry fills the gap differently, and other positions stay.

    kept by the phase before     a b (c failed) d       a b c d            (c was retried)
    positions                    0 1            2+GAP   0 1 2 2+GAP

Gaps are inherited: in the phase after that, the descendants of a gap's records are in a gap again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain, count

import attrs

from curate.engine.durability.intervals import Intervals, Range

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
    # The ranges are walked in ascending order, with `end` after the last record or gap so far. A range lies in an
    # inherited gap (before `left`), where its rows go to the next free positions of the new gap (`filled`); or it is
    # an input that failed, which opens a gap of its own; or it appends its rows at `end`. Only the last case moves
    # `end` by the number of rows, so a retry, which changes rows inside gaps only, leaves all other positions as they
    # are. Gaps without a range are opened all the same, so that their number does not depend on their content.
    end = 0
    inherited, left, filled = iter(before.retry_gaps), -1, -1
    coming = next(inherited, None)

    def open_gap(origin: int) -> None:
        nonlocal end
        retry_gaps.append(end)
        gap_origins.append(origin)
        end += GAP

    def put(position: int, rows: int) -> None:
        if not rows:
            return
        if runs and sum(runs[-1]) == position:
            runs[-1] = runs[-1][0], runs[-1][1] + rows
        else:
            runs.append((position, rows))

    for first, _, rows in ranges:
        while coming is not None and coming <= first:
            open_gap(coming)
            left, filled = coming + GAP, retry_gaps[-1]
            coming = next(inherited, None)
        if first < left:
            put(filled, rows)
            filled += rows
        elif first in apart:
            open_gap(first)
            put(retry_gaps[-1], rows)
        else:
            put(end, rows)
            end += rows
    while coming is not None:
        open_gap(coming)
        coming = next(inherited, None)
    return InputPositions(tuple(runs), tuple(retry_gaps), tuple(gap_origins))
