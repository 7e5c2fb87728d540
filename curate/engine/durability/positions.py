"""Positions of a phase's input that stay what they are when a failure of the phase before is repaired later.

What a phase keeps is the next one's input, and commits name records by their position in it. If positions were merely
counted, a record that is kept at last would shift all behind it. So a root that failed in part or as a whole leaves a
*slot* in the numbering of the next phase: `GAP` positions, of which what was kept of the root takes the first ones,
often none. A retry fills the slot in another way, and nobody else's position changes.

    kept by the phase before     a b (c failed) d        a b c d            (c was repaired)
    positions                    0 1            2+SLOT   0 1 2 2+SLOT

Slots are handed down: in the phase after, what became of a slot's records is in a slot again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain, count

import attrs

from curate.engine.durability.intervals import Intervals, Range

GAP = 1 << 32
"""Positions that a slot has; a root has fewer descendants."""


@attrs.frozen
class InputPositions:
    """The positions of a phase's input.

    Args:
        runs: `(first position, how many records)`, ascending; None: they are counted from 0, and nobody knows how many.
        slots: the first positions of the slots, ascending.
        origins: for every slot, the slot or the failed root of the phase before that it stands for.
    """

    runs: tuple[tuple[int, int], ...] | None = None
    slots: tuple[int, ...] = ()
    origins: tuple[int, ...] = ()

    def __iter__(self) -> Iterator[int]:
        """Yield the position of every record, in order."""
        if self.runs is None:
            return count()
        return chain.from_iterable(range(first, first + records) for first, records in self.runs)

    @property
    def total(self) -> int | None:
        """How many records there are; None: nobody knows."""
        return None if self.runs is None else sum(records for _, records in self.runs)

    def gap_of(self, position: int) -> int | None:
        """Return the slot that a position lies in."""
        place = bisect_right(self.slots, position) - 1
        return self.slots[place] if place >= 0 and position < self.slots[place] + GAP else None

    def holds_exactly(self, done: Intervals) -> bool:
        """Return whether `done` are all positions and no others; where they are counted, whether none is left out."""
        if self.runs is None:
            return len(done) == done.end
        return list(done) == list(Intervals((first, first + records - 1) for first, records in self.runs if records))


def positions_after(before: InputPositions, ranges: Iterable[Range], apart: frozenset[int]) -> InputPositions:
    """Return the positions of what a phase has kept, which is the next one's input.

    Args:
        before: the positions of the phase's own input.
        ranges: what became of them, ascending.
        apart: the positions of roots that failed, now or before a retry.
    """
    runs: list[tuple[int, int]] = []
    slots: list[int] = []
    origins: list[int] = []
    end = 0  # behind the last record or slot
    inherited, left, filled = iter(before.slots), -1, -1
    coming = next(inherited, None)

    def open_slot(origin: int) -> None:
        nonlocal end
        slots.append(end)
        origins.append(origin)
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
            open_slot(coming)
            left, filled = coming + GAP, slots[-1]
            coming = next(inherited, None)
        if first < left:
            put(filled, rows)
            filled += rows
        elif first in apart:
            open_slot(first)
            put(slots[-1], rows)
        else:
            put(end, rows)
            end += rows
    while coming is not None:
        open_slot(coming)
        coming = next(inherited, None)
    return InputPositions(tuple(runs), tuple(slots), tuple(origins))
