"""Samples of records in bounded memory: at random, up to a number for each reason, and those with the highest rate."""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import attrs

from curate.records import ID
from curate.report.columns import Columns
from curate.report.sanitize import printable

Fate: TypeAlias = Literal["kept", "filtered", "quarantined"]
"""The outcome of a record."""

_TEXT_CHARACTERS = 2000
_PATH_CHARACTERS = 4096
_OTHER_COLUMNS = 12
_GROUPS = 40
"""The maximum number of reasons of an outcome that have samples."""


@attrs.frozen
class Sample:
    """A record as it is shown, with nothing in it that is unbounded.

    Args:
        path: the audio's, whole; None if there is none that could be opened.
        offset_s, duration_s: the segment of it, if the record is one.
        because: why it was left out: a filter's reason, or the message of an error.
        others: further columns, as they are shown.
    """

    id: str
    fate: Fate
    stage: str
    because: str
    code: str
    traceback: str
    rate: float | None
    reference: str
    hypothesis: str | None
    path: str | None
    offset_s: float | None
    duration_s: float | None
    others: Mapping[str, str]


def sample_of(fate: Fate, row: Mapping[str, Any], columns: Columns) -> Sample:
    """Return the sample of a kept record, or of a note about one that was not kept."""
    record = record_of(fate, row)
    compared = columns.comparison
    path, offset_s, duration_s = (record.get(name) for name in (columns.filepath, "offset", "duration"))
    shown = {ID, columns.filepath, columns.text, "offset", "duration"}
    hypothesis = None if compared is None else record.get(compared.hypothesis)
    if compared is not None:
        shown |= {compared.hypothesis, compared.column}
    others = [(name, value) for name, value in record.items() if name not in shown][:_OTHER_COLUMNS]
    return Sample(
        id=printable(row.get(ID, ""), _PATH_CHARACTERS),
        fate=fate,
        stage=printable(row.get("stage", ""), 80) if fate != "kept" else "",
        because=printable(row.get("message" if fate == "quarantined" else "reason", ""), 400) if fate != "kept" else "",
        code=printable(row.get("code", ""), 80) if fate == "quarantined" else "",
        traceback=_tail(row.get("traceback")) if fate == "quarantined" else "",
        rate=None if compared is None else as_number(record.get(compared.column)),
        reference=_text(record.get(columns.text)),
        hypothesis=None if hypothesis is None else _text(hypothesis),
        path=path if isinstance(path, str) and len(path) <= _PATH_CHARACTERS else None,
        offset_s=as_number(offset_s),
        duration_s=as_number(duration_s),
        others={printable(name, 60): printable(value, 160) for name, value in others},
    )


def record_of(fate: Fate, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the kept record, or the record that a note is about."""
    return row if fate == "kept" else row.get("record") or {}


def as_number(value: Any) -> float | None:
    """Return a finite int or float as a float, and None for everything else."""
    if type(value) is float:
        return value if -1e300 < value < 1e300 else None
    if type(value) is int:
        return float(value) if -(1 << 53) < value < 1 << 53 else None
    return None


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value[: _TEXT_CHARACTERS + 1] if isinstance(value, str) else printable(value, _TEXT_CHARACTERS)


def _tail(traceback: Any) -> str:
    """Return the end of a traceback, which has the error."""
    text = traceback if isinstance(traceback, str) else ""
    return printable(text if len(text) <= 6000 else f"…\n{text[-6000:]}", 7000)


class Reservoirs:
    """Samples at random, the same number for each group, whatever the order and number of the records.

    Args:
        each: how many for a group.
        seed: the same records give the same samples.
    """

    def __init__(self, each: int, seed: int = 0) -> None:
        self._each = each
        self._random = random.Random(seed)
        self._seen: dict[str, int] = {}
        self._held: dict[str, list[Sample]] = {}

    def offer(self, group: str, fate: Fate, row: Mapping[str, Any], columns: Columns) -> None:
        """Add a row to the samples, or not."""
        seen = self._seen.get(group)
        if seen is None:
            if len(self._seen) >= _GROUPS:
                return
            seen = 0
        self._seen[group] = seen + 1
        if seen < self._each:
            self._held.setdefault(group, []).append(sample_of(fate, row, columns))
            return
        place = int(self._random.random() * (seen + 1))
        if place < self._each:
            self._held[group][place] = sample_of(fate, row, columns)

    def groups(self) -> list[tuple[str, Sequence[Sample]]]:
        """Return the groups with their samples, the largest group first."""
        return sorted(self._held.items(), key=lambda item: -self._seen[item[0]])

    def taken(self, most: int) -> list[Sample]:
        """Return at most `most` samples, one of each group before a second of any."""
        groups = [samples for _, samples in self.groups()]
        rounds = [samples[place] for place in range(self._each) for samples in groups if place < len(samples)]
        return rounds[:most]


class Worst:
    """The records with the highest rate; of equal ones those that come first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[float, int, Sample]] = []
        self._number = 0

    def offer(self, rate: float, fate: Fate, row: Mapping[str, Any], columns: Columns) -> None:
        """Take a row in, if it is among the worst so far."""
        self._number -= 1
        if rate <= 0 or (len(self._heap) == self._most and rate <= self._heap[0][0]):
            return
        entry = (rate, self._number, sample_of(fate, row, columns))
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heapreplace(self._heap, entry)

    def samples(self) -> list[Sample]:
        """Return them, the worst first."""
        return [sample for _, _, sample in sorted(self._heap, key=lambda entry: (-entry[0], -entry[1]))]
