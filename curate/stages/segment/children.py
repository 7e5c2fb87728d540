"""What the children of a split record have in common: their place in it, and the columns that they do not inherit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from curate.records import Record

OF_THE_WHOLE = frozenset(
    {"speech", "speech_s", "speech_ratio", "speech_short", "words", "segments", "claimed_duration"}
)
"""Columns that describe a whole recording. Copied to thousands of children, they would be most of the data."""


def inherited(record: Record, also: Iterable[str] = ()) -> Record:
    """Return the columns of a parent that its children inherit."""
    left_out = OF_THE_WHOLE | set(also)
    return {name: value for name, value in record.items() if name not in left_out}


def child_of(parent: Record, inherits: Record, start_s: float, end_s: float, **columns: Any) -> Record:
    """Return a child that is a segment of its parent.

    Args:
        parent: the record; its `offset`, if it has one, is added.
        inherits: the columns of the parent that the child gets.
        start_s, end_s: of the segment, from the start of the parent's audio.
        columns: what the child has in addition.
    """
    offset_s = round(float(parent.get("offset") or 0.0) + start_s, 6)
    return {**inherits, "offset": offset_s, "duration": round(end_s - start_s, 6), **columns}


def numbered(children: Sequence[Record]) -> Sequence[Record]:
    """Return the children with `part`, counted from 0, and `parts`, their number."""
    for part, child in enumerate(children):
        child["part"], child["parts"] = part, len(children)
    return children
