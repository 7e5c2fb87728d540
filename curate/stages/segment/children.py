"""What the children of a split record have in common: their place in it, and what becomes of the parent's columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from curate.io.rows import is_finite_number
from curate.records import Record

PARENT_SPAN = "parent_span"
"""The start and end of a child's parent in its recording, seconds: what `join_parts` makes the parent of."""

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
    parent_s = float(parent.get("offset") or 0.0)
    place = {"offset": round(parent_s + start_s, 6), "duration": round(end_s - start_s, 6)}
    return {**inherits, **place, PARENT_SPAN: [round(parent_s, 6), round(parent_s + _length_s(parent), 6)], **columns}


def _length_s(parent: Record) -> float:
    length_s: Any = parent.get("duration")
    return float(length_s) if is_finite_number(length_s) else 0.0


def numbered(children: Sequence[Record]) -> Sequence[Record]:
    """Return the children with `part`, counted from 0, and `parts`, their number."""
    for part, child in enumerate(children):
        child["part"], child["parts"] = part, len(children)
    return children


def moved_words(words: object, by_s: float) -> Iterator[Record]:
    """Yield the words of a column with their times moved, such as from a part's start to its parent's."""
    for word in cast("list[Any]", words) if isinstance(words, list) else []:
        if isinstance(word, dict):
            moved = {**cast("Record", word)}
            for name in ("start", "end"):
                if is_finite_number(moved.get(name)):
                    moved[name] = round(moved[name] + by_s, 3)
            yield moved
