"""The lines of a unit's files: kept rows, and the notes about records that were filtered or failed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias, cast

from curate.engine.durability.commit import CommitBuffer, OutputRows
from curate.engine.protocol.messages import Filtered, Quarantined
from curate.io.rows import encode_note
from curate.records import ID, Record

LinesKind: TypeAlias = Literal["data", "filtered", "quarantine"]


def unit_lines(unit: CommitBuffer, rows: OutputRows, kind: LinesKind) -> Iterator[bytes] | None:
    """Return the lines of a unit's file of a kind; None: it has no such file.

    Args:
        rows: the unit's own rows, which are costly to sort twice.
    """
    if kind == "data":
        return iter(cast("list[bytes]", rows.rows)) if rows.rows else None
    if kind == "filtered":
        filtered = unit.filtered()
        return (encode_note(_describe_filtered(*pair)) for pair in filtered) if filtered else None
    quarantined = unit.quarantined()
    return (encode_note(describe_quarantined(*pair)) for pair in quarantined) if quarantined else None


def _describe_filtered(position: int, note: Filtered) -> Record:
    return {
        ID: note.record[ID],
        "stage": note.stage,
        "reason": note.reason,
        "position": position,
        "record": _without_id(note.record),
    }


def describe_quarantined(position: int, note: Quarantined) -> Record:
    """Return a line of `quarantine/`; `position` is that of the note's root in the input of its phase."""
    return {
        ID: note.record[ID],
        "stage": note.stage,
        "code": note.code,
        "message": note.message,
        "attempts": note.attempts,
        "position": position,
        "traceback": note.traceback,
        "record": _without_id(note.record),
    }


def _without_id(record: Record) -> Record:
    return {name: value for name, value in record.items() if name != ID}
