"""Commit units: the finished records that are made permanent at once, whatever batches they came in."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from curate.engine.books import Books, Settled
from curate.engine.intervals import Intervals, Range, ranges_of
from curate.engine.messages import Filtered, Quarantined
from curate.engine.reasons import Reasons, clause_of, count_reasons

UNIT_BYTES = 64 * 1024 * 1024
UNIT_SECONDS = 30.0
"""A unit is committed when it has so many bytes of rows and notes, or is so old."""

_NOTE_BYTES = 1024
"""What the note of a record that was left out or that failed takes, about, beside its traceback."""


class Unit:
    """Settled roots that are committed at once."""

    def __init__(self) -> None:
        self.settled: list[Settled] = []
        self.bytes = 0
        self._books: Books | None = None
        self.measures: Mapping[str, Any] = {}
        self._started: float | None = None

    def add(self, settled: Settled) -> None:
        self.settled.append(settled)
        self.bytes += sum(len(row) for row in settled.rows if isinstance(row, bytes))
        self.bytes += sum(_NOTE_BYTES + len(note.traceback) for _, note in settled.quarantined)
        self.bytes += _NOTE_BYTES * len(settled.filtered)
        self._started = self._started or time.monotonic()

    @property
    def full(self) -> bool:
        return self.bytes >= UNIT_BYTES or (
            self._started is not None and time.monotonic() - self._started >= UNIT_SECONDS
        )

    def books(self) -> Books:
        """Return the books of the unit, which is full: nothing is added to it any more."""
        if self._books is None:
            self._books = Books()
            records_in = kept = in_ms = kept_ms = 0
            for settled in self.settled:
                if settled.is_plain:
                    records_in += len(settled.seqs)
                    kept += len(settled.rows)
                    in_ms += settled.in_ms
                    kept_ms += settled.kept_ms
                else:
                    self._books.add(settled.books())
            self._books.add(Books(records_in, kept=kept, in_ms=in_ms, kept_ms=kept_ms))
        return self._books

    def id_sum(self) -> int:
        """Return the sum over the ids of the roots, see `id_sum`."""
        return id_sum(identity for settled in self.settled for identity in settled.ids)

    def seqs(self) -> list[int]:
        """Return the positions of the roots, ascending."""
        return sorted(seq for settled in self.settled for seq in settled.seqs)

    def rows(self) -> list[tuple[int, Any]]:
        """Return the rows with the positions of their roots, ascending; children of one root stay in their order."""
        pairs = [pair for settled in self.settled for pair in zip(settled.row_seqs, settled.rows, strict=True)]
        pairs.sort(key=lambda pair: pair[0])
        return pairs

    def filtered(self) -> list[tuple[int, Filtered]]:
        return sorted((pair for settled in self.settled for pair in settled.filtered), key=lambda pair: pair[0])

    def quarantined(self) -> list[tuple[int, Quarantined]]:
        return sorted((pair for settled in self.settled for pair in settled.quarantined), key=lambda pair: pair[0])

    def stage_counts(self) -> dict[str, dict[str, int]]:
        """Return, for each stage, how many records it filtered, failed on, split, and into how many."""
        counts: dict[str, dict[str, int]] = {}

        def count(stage: str, what: str, amount: int = 1) -> None:
            of_stage = counts.setdefault(stage, {"filtered": 0, "quarantined": 0, "split": 0, "children": 0})
            of_stage[what] += amount

        for settled in self.settled:
            for _, note in settled.filtered:
                count(note.stage, "filtered")
            for _, note in settled.quarantined:
                count(note.stage, "quarantined")
            for split in settled.splits:
                count(split.stage, "split")
                count(split.stage, "children", split.children)
        return counts


@attrs.frozen
class Commit:
    """What `commits/<unit>.json` says; keys, counts, sizes and checksums."""

    unit: str
    phase: int
    ranges: tuple[Range, ...]
    rows: int
    books: Books
    stages: Mapping[str, Mapping[str, int]]
    codes: Mapping[str, int]
    busy_s: Mapping[str, float]
    files: Mapping[str, Mapping[str, Any]]
    id_sum: int = 0
    """Tells in a later life of the run whether the input still has these roots at these positions."""
    reasons: Mapping[str, Reasons] = attrs.field(factory=dict[str, Reasons])
    """Why the stages filtered; commits of earlier versions do not say it, nor the next two."""
    stage_codes: Mapping[str, Reasons] = attrs.field(factory=dict[str, Reasons])
    measures: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    """What the stages have measured, by their names; see `ProcessingStage.take_measures`."""


def positions_of(commits: Iterable[Commit]) -> Intervals:
    """Return the positions of the roots that commits hold."""
    return Intervals((first, last) for commit in commits for first, last, _ in commit.ranges)


def id_sum(ids: Iterable[str]) -> int:
    """Return a checksum of ids that does not depend on their order, below 2**64; sums of it can be added.

    The cubes keep ids that merely share their digits from adding up to the same.
    """
    total = 0
    for identity in ids:
        crc = zlib.crc32(identity.encode(errors="surrogatepass"))
        total += crc * crc * crc
    return total % (1 << 64)


def id_sum_of(commits: Iterable[Commit]) -> int:
    """Return the sum over the ids of the roots that commits hold."""
    return sum(commit.id_sum for commit in commits) % (1 << 64)


def describe_unit(
    unit: Unit, name: str, phase: int, rows: Sequence[tuple[int, Any]], busy_s: Mapping[str, float]
) -> Commit:
    """Return what a commit says of a unit; `rows` are the unit's own, which are costly to sort twice."""
    quarantined = unit.quarantined()
    codes: dict[str, int] = {}
    for _, note in quarantined:
        codes[note.code] = codes.get(note.code, 0) + 1
    return Commit(
        unit=name,
        phase=phase,
        ranges=tuple(ranges_of(unit.seqs(), [seq for seq, _ in rows], [seq for seq, _ in quarantined])),
        rows=len(rows),
        books=unit.books(),
        stages=unit.stage_counts(),
        codes=codes,
        busy_s=dict(busy_s),
        files={},
        reasons=count_reasons((note.stage, clause_of(note.reason), note.record) for _, note in unit.filtered()),
        stage_codes=count_reasons((note.stage, note.code, note.record) for _, note in quarantined),
        measures=unit.measures,
    )
