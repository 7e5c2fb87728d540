"""Commit units: the finished records that are made permanent at once, whatever batches they came in."""

from __future__ import annotations

import heapq
import time
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from operator import itemgetter
from typing import Any

import attrs

from curate.engine.accounting.counts import FinishedInputs, RecordCounts, sum_counts
from curate.engine.accounting.reasons import Reasons, clause_of, count_reasons, subtract_reasons
from curate.engine.durability.intervals import Intervals, Range, Ranges, ranges_of
from curate.engine.durability.positions import InputPositions
from curate.engine.protocol.messages import Filtered, OutputRow, Quarantined
from curate.records import Record

UNIT_BYTES = 4 * 1024 * 1024
UNIT_SECONDS = 30.0
"""A unit is committed when it takes so many bytes of the driver's memory, or is so old."""

UNITS_OF_A_SIZE = 256
LARGEST = 16
"""After so many units they grow, up to so many times the size: the driver keeps something of every commit as well, so
that of a long run neither the units nor their number may take much.
"""

_ROW_BYTES = 150
"""What a row takes, about, beside its content: it is an object in a list, with a position, an id and a length."""

_NOTE_BYTES = 1024
"""What the note of a record that was left out or that failed takes, about, beside its traceback and long values."""

_CONTAINERS = frozenset({list, dict, tuple})
_ITEM_BYTES = 64
"""What an item of a list or dict takes, about."""


class OutputRows:
    """Rows and, beside them, the positions of the roots that they descend from: two lists are quicker than pairs."""

    def __init__(self) -> None:
        self.seqs: list[int] = []
        self.rows: list[OutputRow] = []

    def __len__(self) -> int:
        return len(self.rows)

    def extend(self, seqs: Sequence[int], rows: Sequence[OutputRow]) -> None:
        """Add rows at the end."""
        self.seqs.extend(seqs)
        self.rows.extend(rows)

    def sort(self) -> None:
        """Sort them by position; rows of the same position stay in their order."""
        seqs, rows = self.seqs, self.rows
        ascending = sorted(seqs)
        if ascending != seqs:
            self.rows = [rows[place] for place in sorted(range(len(seqs)), key=seqs.__getitem__)]
            self.seqs = ascending


class CommitBuffer:
    """Settled roots that are committed at once.

    Args:
        places: the positions of the phase's input.
        retried: positions of roots that had failed and are done again.
        after: how many commits there are.
    """

    def __init__(self, places: InputPositions | None = None, retried: Collection[int] = (), *, after: int = 0) -> None:
        self._places = InputPositions() if places is None else places
        self._retried = retried
        self.settled: list[FinishedInputs] = []
        self.name = ""
        """What it is called on disk; a commit that is interrupted and done again keeps it, so it is one commit."""
        self.bytes = 0
        self._most_bytes = UNIT_BYTES * min(LARGEST, max(1.0, after / UNITS_OF_A_SIZE))
        self._books: RecordCounts | None = None
        self.busy_s: Mapping[str, float] = {}
        self.measures: Mapping[str, Any] = {}
        self._started: float | None = None

    def add(self, settled: FinishedInputs) -> None:
        self.settled.append(settled)
        self._books = None
        if settled.rows and isinstance(settled.rows[0], bytes):  # all are; dicts stay in memory anyhow
            self.bytes += sum(map(len, settled.rows)) + _ROW_BYTES * len(settled.rows)
        self.bytes += sum(_NOTE_BYTES + len(note.traceback) + _bytes_of(note.record) for _, note in settled.quarantined)
        self.bytes += sum(_NOTE_BYTES + _bytes_of(note.record) for _, note in settled.filtered)
        self._started = self._started or time.monotonic()

    @property
    def full(self) -> bool:
        return self.bytes >= self._most_bytes or (
            self._started is not None and time.monotonic() - self._started >= UNIT_SECONDS
        )

    def books(self) -> RecordCounts:
        """Return the books of the unit."""
        if self._books is None:
            self._books = sum_counts(self.settled)
        return self._books

    def apart(self) -> dict[int, FinishedInputs]:
        """Return the roots whose outcome a retry may replace: they, or what they came from, failed now or before."""
        found: dict[int, FinishedInputs] = {}
        for settled in self.settled:
            seqs = {seq for seq, _ in settled.quarantined}
            if self._places.slots or self._retried:
                seqs.update(seq for seq in settled.seqs if seq in self._retried or self._places.gap_of(seq) is not None)
            if seqs:
                found.update(settled.roots(seqs))
        return dict(sorted(found.items()))

    def seqs(self) -> list[int]:
        """Return the positions of the roots, ascending."""
        return sorted(seq for settled in self.settled for seq in settled.seqs)

    def rows(self) -> OutputRows:
        """Return the rows, sorted by the positions of their roots; children of one root stay in their order."""
        found = OutputRows()
        for settled in self.settled:
            found.extend(settled.row_seqs, settled.rows)
        found.sort()
        return found

    def filtered(self) -> list[tuple[int, Filtered]]:
        return sorted((pair for settled in self.settled for pair in settled.filtered), key=itemgetter(0))

    def quarantined(self) -> list[tuple[int, Quarantined]]:
        return sorted((pair for settled in self.settled for pair in settled.quarantined), key=itemgetter(0))


def _bytes_of(record: Record) -> int:
    """Return what a record's texts and containers take, about: they may be of any length."""
    texts = sum(len(value) for value in record.values() if isinstance(value, str | bytes))
    return texts + sum(_ITEM_BYTES * len(value) for value in record.values() if type(value) in _CONTAINERS)


@attrs.frozen
class CommitStats:
    """What some roots add to the books of a run.

    Args:
        stages: for each stage, how many records it filtered, failed on, split, and into how many.
        codes: how many records failed with each code.
        id_checksum: see `id_checksum_of`; a later attempt compares it with the ids of its input there.
        reasons: why the stages filtered.
        stage_codes: with which codes records failed at each stage.
    """

    books: RecordCounts
    stages: Mapping[str, Mapping[str, int]]
    codes: Mapping[str, int]
    id_checksum: int
    reasons: Mapping[str, Reasons]
    stage_codes: Mapping[str, Reasons]

    @classmethod
    def of(cls, settled: Sequence[FinishedInputs]) -> CommitStats:
        """Return the account of settled roots."""
        books = sum_counts(settled)
        codes: dict[str, int] = {}
        for each in settled:
            for _, note in each.quarantined:
                codes[note.code] = codes.get(note.code, 0) + 1
        filtered = sorted((pair for each in settled for pair in each.filtered), key=itemgetter(0))
        failed = sorted((pair for each in settled for pair in each.quarantined), key=itemgetter(0))
        return cls(
            books,
            _stage_counts(settled),
            codes,
            id_checksum(chain.from_iterable(each.ids for each in settled)),
            count_reasons((note.stage, clause_of(note.reason), note.record) for _, note in filtered),
            count_reasons((note.stage, note.code, note.record) for _, note in failed),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data, the zeros of the books left out."""
        books = {name: amount for name, amount in asdict(self.books).items() if amount}
        return attrs.asdict(self, recurse=False) | {"books": books}

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> CommitStats:
        return attrs.evolve(cls(**described), books=RecordCounts(**described["books"]))

    def without(self, other: CommitStats) -> CommitStats:
        """Return this account without a part of it."""
        books = replace(self.books)
        books.subtract(other.books)
        return CommitStats(
            books,
            {stage: _minus(counts, other.stages.get(stage, {})) for stage, counts in self.stages.items()},
            _minus(self.codes, other.codes),
            (self.id_checksum - other.id_checksum) % (1 << 64),
            {name: subtract_reasons(each, other.reasons.get(name, {})) for name, each in self.reasons.items()},
            {
                stage: subtract_reasons(each, other.stage_codes.get(stage, {}))
                for stage, each in self.stage_codes.items()
            },
        )


def _stage_counts(settled: Sequence[FinishedInputs]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}

    def count(stage: str, what: str, amount: int = 1) -> None:
        of_stage = counts.setdefault(stage, {"filtered": 0, "quarantined": 0, "split": 0, "children": 0})
        of_stage[what] += amount

    for each in settled:
        for _, note in each.filtered:
            count(note.stage, "filtered")
        for _, note in each.quarantined:
            count(note.stage, "quarantined")
        for split in each.splits:
            count(split.stage, "split")
            count(split.stage, "children", split.children)
    return counts


def _minus(whole: Mapping[str, int], part: Mapping[str, int]) -> dict[str, int]:
    left = {name: amount - part.get(name, 0) for name, amount in whole.items()}
    return {name: amount for name, amount in left.items() if amount}


@attrs.frozen
class Commit:
    """What `commits/<unit>.json` says; keys, counts, sizes and checksums.

    Args:
        number: counted over all phases, so that of two outcomes of one root the later one counts.
        apart: the positions of the roots whose outcome a retry may replace; each has a range of its own.
        measures: what the stages have measured, by their names; see `ProcessingStage.take_measures`.
        replaced: those of them whose outcome counts no more; the account is without them.
    """

    unit: str
    phase: int
    number: int
    ranges: Ranges
    rows: int
    account: CommitStats
    busy_s: Mapping[str, float]
    files: Mapping[str, Mapping[str, Any]]
    apart: Sequence[int] = ()
    measures: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    replaced: frozenset[int] = frozenset()

    @property
    def books(self) -> RecordCounts:
        return self.account.books

    @property
    def stages(self) -> Mapping[str, Mapping[str, int]]:
        return self.account.stages

    @property
    def codes(self) -> Mapping[str, int]:
        return self.account.codes

    @property
    def reasons(self) -> Mapping[str, Reasons]:
        return self.account.reasons

    @property
    def stage_codes(self) -> Mapping[str, Reasons]:
        return self.account.stage_codes

    def valid_ranges(self) -> Iterator[Range]:
        """Yield the ranges whose outcome counts."""
        if not self.replaced:
            return iter(self.ranges)
        return (found for found in self.ranges if found[0] not in self.replaced)


def positions_of(commits: Iterable[Commit]) -> Intervals:
    """Return the positions of the roots that commits hold."""
    return Intervals((first, last) for commit in commits for first, last, _ in commit.valid_ranges())


def id_checksum(ids: Iterable[str]) -> int:
    """Return a checksum of ids that does not depend on their order, below 2**64; sums of it can be added.

    The cubes keep ids that merely share their digits from adding up to the same.
    """
    total = 0
    for identity in ids:
        try:
            encoded = identity.encode()
        except UnicodeEncodeError:  # rare, and to say so beforehand takes as long again
            encoded = identity.encode(errors="surrogatepass")
        crc = zlib.crc32(encoded)
        total += crc * crc * crc
    return total % (1 << 64)


def id_checksum_of(commits: Iterable[Commit]) -> int:
    """Return the sum over the ids of the roots that commits hold."""
    return sum(commit.account.id_checksum for commit in commits) % (1 << 64)


def ranges_in_order(commits: Iterable[Commit]) -> Iterator[Range]:
    """Yield the ranges that count, ascending; of each commit only one is looked at at a time."""
    return heapq.merge(*(commit.valid_ranges() for commit in commits))


def describe_unit(
    unit: CommitBuffer, number: int, phase: int, rows: OutputRows, busy_s: Mapping[str, float]
) -> tuple[Commit, dict[int, CommitStats]]:
    """Return what a commit says of a unit, and the accounts of the roots whose outcome may be replaced.

    Args:
        rows: the unit's own, which are costly to sort twice.
    """
    accounts = {seq: CommitStats.of([settled]) for seq, settled in unit.apart().items()}
    commit = Commit(
        unit=unit.name,
        phase=phase,
        number=number,
        ranges=Ranges(ranges_of(unit.seqs(), rows.seqs, accounts)),
        rows=len(rows),
        account=CommitStats.of(unit.settled),
        busy_s=dict(busy_s),
        files={},
        apart=tuple(accounts),
        measures=unit.measures,
    )
    return commit, accounts
