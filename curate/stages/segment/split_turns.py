"""The stage that cuts a recording into the turns of its speakers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import attrs

from curate.errors import PlanError, RecordError
from curate.io.rows import is_finite_number
from curate.records import Record
from curate.stage import RecordStage, Reject
from curate.stages.segment.children import OF_THE_WHOLE, PARENT_SPAN, child_of, inherited, numbered

_OVERLAPS = ("mark", "drop")


@attrs.frozen
class _Turn:
    start_s: float
    end_s: float
    speaker: str


@dataclass
class SplitTurns(RecordStage):
    """Splits a recording into turns of one speaker each, from a column as diarisation gives it.

    The column holds `[{start, end, speaker}, …]` in seconds from the start of the record's audio. Turns of one speaker
    that are nearer than `merge_gap_s`, without another speaker in between, are one. Each child has its `speaker` and
    `overlap_s`, the part of it in which others speak as well; with `overlap: drop` that part is cut out, and what is
    left of a turn may be several children. `part` and `parts` number them. A recording without turns is filtered.

    Args:
        turns_key: the column with the turns.
        overlap: `mark` or `drop`.
        merge_gap_s: turns of one speaker nearer than this are one.
        min_s: a shorter child is marked with `too_short`.
    """

    turns_key: str = "turns"
    overlap: str = "mark"
    merge_gap_s: float = 0.5
    min_s: float = 0.5

    cardinality = "splits"

    def check(self) -> None:
        if self.overlap not in _OVERLAPS:
            raise PlanError(f"split_turns: overlap={self.overlap!r:.80}: choose from {', '.join(_OVERLAPS)}", self.name)
        if not 0 <= self.merge_gap_s < float("inf") or not 0 <= self.min_s < float("inf"):
            raise PlanError("split_turns: merge_gap_s and min_s must be 0 or more", self.name)

    def reads(self) -> tuple[str, ...]:
        return (self.turns_key,)

    def writes(self) -> tuple[str, ...]:
        return ("offset", "duration", "part", "parts", PARENT_SPAN, "speaker", "overlap_s", "too_short")

    def drops(self) -> frozenset[str]:
        return OF_THE_WHOLE - {"claimed_duration"} | {self.turns_key}

    def process_record(self, record: Record) -> Sequence[Record] | Reject:
        turns = _turns_of(record, self.turns_key)
        turns = _merged(turns, self.merge_gap_s)
        busy = _overlaps(turns)
        if self.overlap == "drop":
            turns = [piece for turn in turns for piece in _without(turn, busy)]
        if not turns:
            return Reject("no turn of one speaker")
        inherits = inherited(record, (self.turns_key,))
        return numbered(
            [
                child_of(
                    record,
                    inherits,
                    turn.start_s,
                    turn.end_s,
                    speaker=turn.speaker,
                    overlap_s=round(sum(_common(turn, *span) for span in busy), 3),
                    too_short=turn.end_s - turn.start_s < self.min_s,
                )
                for turn in turns
            ]
        )


def _turns_of(record: Record, key: str) -> list[_Turn]:
    if key not in record:
        raise RecordError("missing_column", f"the record has no {key!r}")
    value: object = record[key]
    turns: list[_Turn] = []
    for each in cast("list[object]", value or []) if isinstance(value, list | None) else [None]:
        turn = cast("dict[str, Any]", each) if isinstance(each, dict) else {}
        start: Any = turn.get("start")
        end: Any = turn.get("end")
        speaker: Any = turn.get("speaker")
        if not is_finite_number(start) or not is_finite_number(end) or not 0 <= start <= end or speaker is None:
            raise RecordError("bad_value", f"{key} = {value!r:.80} is not a list of turns with start, end and speaker")
        if end > start:
            turns.append(_Turn(round(float(start), 3), round(float(end), 3), str(speaker)))
    return sorted(turns, key=lambda turn: (turn.start_s, turn.end_s, turn.speaker))


def _merged(turns: Sequence[_Turn], gap_s: float) -> list[_Turn]:
    merged: list[_Turn] = []
    latest: dict[str, int] = {}
    for turn in turns:
        place = latest.get(turn.speaker)
        if (
            place is not None
            and turn.start_s - merged[place].end_s < gap_s
            and (place == len(merged) - 1 or turn.start_s <= merged[place].end_s)
        ):
            merged[place] = attrs.evolve(merged[place], end_s=max(merged[place].end_s, turn.end_s))
        else:
            latest[turn.speaker] = len(merged)
            merged.append(turn)
    return merged


def _overlaps(turns: Sequence[_Turn]) -> list[tuple[float, float]]:
    """Return the spans in which more than one speaker speaks, in order and apart."""
    edges = sorted(
        [(turn.start_s, 1) for turn in turns] + [(turn.end_s, -1) for turn in turns],
        key=lambda edge: (edge[0], edge[1]),
    )
    spans: list[tuple[float, float]] = []
    speaking, since = 0, 0.0
    for at_s, change in edges:
        if speaking >= 2 and at_s > since:
            if spans and spans[-1][1] == since:
                spans[-1] = (spans[-1][0], at_s)
            else:
                spans.append((since, at_s))
        speaking, since = speaking + change, at_s
    return spans


def _without(turn: _Turn, spans: Sequence[tuple[float, float]]) -> list[_Turn]:
    """Return the rest of a turn outside the spans."""
    left: list[_Turn] = []
    start_s = turn.start_s
    for begin_s, stop_s in spans:
        if stop_s <= start_s or begin_s >= turn.end_s:
            continue
        if begin_s > start_s:
            left.append(attrs.evolve(turn, start_s=start_s, end_s=begin_s))
        start_s = max(start_s, stop_s)
    if start_s < turn.end_s:
        left.append(attrs.evolve(turn, start_s=start_s))
    return left


def _common(turn: _Turn, begin_s: float, stop_s: float) -> float:
    return max(0.0, min(turn.end_s, stop_s) - max(turn.start_s, begin_s))
