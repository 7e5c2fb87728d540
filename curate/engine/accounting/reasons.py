"""Why records left a stage: counted by clause or code, in bounded memory, with their audio."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from curate.records import Record, audio_ms

MAX_REASONS = 20
"""The maximum number of reasons counted for each stage; the rest are counted together, as `OTHER_REASONS`."""

OTHER_REASONS = "other"

Reasons: TypeAlias = "Mapping[str, Sequence[int]]"
"""Reason → how many records, and how many milliseconds of audio."""

_VALUES = re.compile(r" \([^()]+ = ")
"""Where the values of the single record begin, in a reason such as `wer <= 0.3 (wer = 0.52)`."""


def clause_of(reason: str) -> str:
    """Return the clause of a reason, without the record's values: `wer <= 0.3` of `wer <= 0.3 (wer = 0.52)`."""
    found = _VALUES.search(reason)
    return reason if found is None else reason[: found.start()]


def count_reasons(notes: Iterable[tuple[str, str, Record]]) -> dict[str, Reasons]:
    """Count the reasons of each stage; a note is the stage, the reason, and the record that left there."""
    counted: dict[str, dict[str, list[int]]] = {}
    for stage, reason, record in notes:
        counts = counted.setdefault(stage, {}).setdefault(reason, [0, 0])
        counts[0] += 1
        counts[1] += audio_ms(record)
    return {stage: _bounded(reasons) for stage, reasons in counted.items()}


def add_reasons(parts: Iterable[Reasons]) -> Reasons:
    """Add up the reasons of one stage, the most frequent first."""
    total: dict[str, list[int]] = {}
    for part in parts:
        for reason, (records, ms) in part.items():
            counts = total.setdefault(reason, [0, 0])
            counts[0] += records
            counts[1] += ms
    return _bounded(total)


def subtract_reasons(whole: Reasons, part: Reasons) -> Reasons:
    """Take a part's reasons from those of the whole, where rare ones may be counted together."""
    left = {reason: list(counts) for reason, counts in whole.items()}
    for reason, counts in part.items():
        of_whole = left[reason if reason in left else OTHER_REASONS]
        for column, amount in enumerate(counts):
            of_whole[column] -= amount
    return {reason: counts for reason, counts in left.items() if counts[0]}


def _bounded(reasons: Reasons) -> dict[str, Sequence[int]]:
    ranked = sorted(reasons.items(), key=lambda item: (item[0] == OTHER_REASONS, -item[1][0], item[0]))
    named, rest = ranked[:MAX_REASONS], ranked[MAX_REASONS:]
    if rest:
        named.append((OTHER_REASONS, [sum(counts[column] for _, counts in rest) for column in (0, 1)]))
    return dict(named)


def failure_kinds(notes: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the kinds of failure, the most frequent first: `stage`, `code`, `records`, and the last `example`."""
    kinds: dict[tuple[str, str], dict[str, Any]] = {}
    for note in notes:
        key = note["stage"], note["code"]
        kind = kinds.setdefault(key, {"stage": key[0], "code": key[1], "records": 0})
        kind |= {"records": kind["records"] + 1, "example": note["_id"], "message": note["message"][:200]}
    return sorted(kinds.values(), key=lambda kind: (-kind["records"], kind["stage"], kind["code"]))
