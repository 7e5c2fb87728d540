"""Commits: units of finished records that become permanent together, whatever batches they came in."""

from __future__ import annotations

import heapq
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from operator import itemgetter
from typing import Any, Literal, TypeAlias

import attrs

from curate.engine.accounting.counts import (
    FinishedInputs,
    RecordCounts,
    add_stage_counts,
    stage_counts,
    sum_counts,
)
from curate.engine.accounting.reasons import Reasons, clause_of, count_reasons, subtract_reasons
from curate.engine.durability.positions import InputPositions, Intervals, Range, Ranges, ranges_of
from curate.engine.protocol.messages import Filtered, OutputRow, Quarantined
from curate.records import Record

UNIT_BYTES = 4 * 1024 * 1024
UNIT_SECONDS = 30.0
"""The size in the driver's memory, and the age, at which a unit is committed."""

_FIRST_UNIT_SECONDS = 2.0
"""The age at which a phase's first unit is committed; it doubles with each unit up to `UNIT_SECONDS`. A kill of a short
run thus repeats some half of its work at most.
"""

UNITS_OF_A_SIZE = 256
LARGEST = 16
"""The number of units after which their size grows, and its largest multiple. The driver also keeps some kilobytes of
every commit, so in a long run neither the size of the units nor their number may grow without bound.
"""

_ROW_BYTES = 150
"""The approximate size of a row without its content: an object in a list, with a position, an id and a length."""

_NOTE_BYTES = 1024
"""The approximate size of a note about a filtered or failed record, without its traceback and long values."""

_FILE_BYTES = 512
"""The approximate size of the description of a new file."""

_TEXTS = (str, bytes)
_CONTAINERS = frozenset({list, dict, tuple})
_ITEM_BYTES = 64
"""The approximate size of an item of a list or dict."""


@attrs.define(eq=False)
class OutputRows:
    """Rows and the positions of the roots that they descend from, as two lists, which are faster than pairs."""

    seqs: list[int] = attrs.field(factory=list[int])
    rows: list[OutputRow] = attrs.field(factory=list[OutputRow])

    def sort(self) -> None:
        """Sort them by position; rows of the same position stay in their order."""
        seqs, rows = self.seqs, self.rows
        ascending = sorted(seqs)
        if ascending != seqs:
            self.rows = [rows[place] for place in sorted(range(len(seqs)), key=seqs.__getitem__)]
            self.seqs = ascending


class CommitBuffer:
    """Settled roots that are committed together.

    Args:
        places: the positions of the phase's input.
        retried: positions of roots that had failed and are done again.
        after: the number of commits so far.
        unit_bytes: the size at which a unit of a short run is full; None: `UNIT_BYTES`.
        clock: seconds that never go back, for the age of the unit.
    """

    def __init__(
        self,
        places: InputPositions | None = None,
        retried: Collection[int] = (),
        *,
        after: int = 0,
        unit_bytes: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = InputPositions() if places is None else places
        self._retried = retried
        self.settled: list[FinishedInputs] = []
        self.name = ""
        """The unit's name on disk; a commit that is interrupted and repeated keeps it, so it stays one commit."""
        self.bytes = 0
        self._max_bytes = (unit_bytes or UNIT_BYTES) * min(LARGEST, max(1.0, after / UNITS_OF_A_SIZE))
        self._max_age_s = min(UNIT_SECONDS, _FIRST_UNIT_SECONDS * 2 ** min(after, 10))
        self._books: RecordCounts | None = None
        self.busy_s: Mapping[str, float] = {}
        self.measures: Mapping[str, Any] = {}
        self._clock = clock
        self._started: float | None = None

    def add(self, settled: FinishedInputs) -> None:
        self.settled.append(settled)
        self._books = None
        if settled.rows and isinstance(settled.rows[0], bytes):  # all are; dicts stay in memory anyhow
            self.bytes += sum(map(len, settled.rows)) + _ROW_BYTES * len(settled.rows)
        self.bytes += sum(_NOTE_BYTES + len(note.traceback) + _bytes_of(note.record) for _, note in settled.quarantined)
        self.bytes += sum(_NOTE_BYTES + _bytes_of(note.record) for _, note in settled.filtered)
        self.bytes += _FILE_BYTES * len(settled.files)
        self._started = self._started or self._clock()

    @property
    def full(self) -> bool:
        return self.bytes >= self._max_bytes or (
            self._started is not None and self._clock() - self._started >= self._max_age_s
        )

    def books(self) -> RecordCounts:
        """Return the books of the unit."""
        if self._books is None:
            self._books = sum_counts(self.settled)
        return self._books

    def individually_tracked(self) -> dict[int, FinishedInputs]:
        """Return the roots whose outcome a retry may replace: they, or what they came from, failed now or before."""
        found: dict[int, FinishedInputs] = {}
        for settled in self.settled:
            seqs = {seq for seq, _ in settled.quarantined}
            if self._places.retry_gaps or self._retried:
                seqs.update(seq for seq in settled.seqs if seq in self._retried or self._places.gap_of(seq) is not None)
            if seqs:
                found.update(settled.roots(seqs))
        return dict(sorted(found.items()))

    def rows(self) -> OutputRows:
        """Return the rows, sorted by the positions of their roots; children of one root stay in their order."""
        found = OutputRows()
        for settled in self.settled:
            found.seqs += settled.row_seqs
            found.rows += settled.rows
        found.sort()
        return found

    def filtered(self) -> list[tuple[int, Filtered]]:
        return sorted((pair for settled in self.settled for pair in settled.filtered), key=itemgetter(0))

    def files(self) -> list[UnitFile]:
        """Return the new audio that the roots refer to, and the shards that hold them, by position."""
        pairs = sorted((pair for settled in self.settled for pair in settled.files), key=itemgetter(0))
        return [UnitFile(file.kind, file.path, file.size, file.sha256, seq) for seq, file in pairs]

    def quarantined(self) -> list[tuple[int, Quarantined]]:
        return sorted((pair for settled in self.settled for pair in settled.quarantined), key=itemgetter(0))


def _bytes_of(record: Record) -> int:
    """Return the approximate size of a record's strings and containers, which may have any length."""
    size = 0
    for value in record.values():
        if isinstance(value, _TEXTS):
            size += len(value)
        elif type(value) in _CONTAINERS:
            size += _ITEM_BYTES * len(value)
    return size


@attrs.frozen
class CommitStats:
    """The contribution of some roots to the books of a run.

    Args:
        stages: the outcomes at each stage, as `StageFlow` names them; what is 0 is left out.
        codes: the number of records that failed with each code.
        id_checksum: see `id_checksum_of`; a later attempt compares it with the ids of its input there.
        reasons: stage → the reasons for which it filtered.
        stage_codes: stage → the codes with which records failed there.
    """

    books: RecordCounts
    stages: Mapping[str, Mapping[str, int]]
    codes: Mapping[str, int]
    id_checksum: int
    reasons: Mapping[str, Reasons]
    stage_codes: Mapping[str, Reasons]

    @classmethod
    def of(cls, settled: Sequence[FinishedInputs], books: RecordCounts | None = None) -> CommitStats:
        """Return the account of settled roots; their books may be known already."""
        books = sum_counts(settled) if books is None else books
        codes: dict[str, int] = {}
        stages: dict[str, dict[str, int]] = {}
        for each in settled:
            if not each.is_plain:
                add_stage_counts(stages, stage_counts(each))
            for _, note in each.quarantined:
                codes[note.code] = codes.get(note.code, 0) + 1
        filtered = sorted((pair for each in settled for pair in each.filtered), key=itemgetter(0))
        failed = sorted((pair for each in settled for pair in each.quarantined), key=itemgetter(0))
        return cls(
            books,
            stages,
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


def _minus(whole: Mapping[str, int], part: Mapping[str, int]) -> dict[str, int]:
    left = {name: amount - part.get(name, 0) for name, amount in whole.items()}
    return {name: amount for name, amount in left.items() if amount}


UnitFileKind: TypeAlias = Literal["data", "filtered", "quarantine", "audio", "shard"]
"""What a file of a commit holds: kept rows, notes about records that were filtered or failed, new audio, or a published
shard. Writers of audio and of shards commit their files in the same list.
"""


@attrs.frozen
class UnitFile:
    """A file that a commit names.

    Args:
        path: relative to the run directory.
        size: in bytes.
        sha256: of the content, in hexadecimal digits.
    """

    kind: UnitFileKind
    path: str
    size: int
    sha256: str
    position: int | None = None
    """Of new audio, the position of its root: once the root's outcome is replaced, the file no longer counts. Of a
    shard, the position of the first record in it.
    """


@attrs.frozen
class Commit:
    """The content of `commits/<unit>.json`: keys, counts, sizes and checksums.

    Args:
        number: counted over all phases, so that of two outcomes of one root the later one counts.
        fingerprint: the run's; a fork takes over commits that have the fingerprint of the run before.
        individually_tracked: the positions of the roots whose outcome a retry may replace; each has a range of its own.
        measures: what the stages have measured, by their names; see `ProcessingStage.take_measures`.
        replaced: those of them whose outcome no longer counts; the account is without them.
        rebuilds: the unit whose place this one takes, because its files were damaged; "" for most.
        renumbers: whether the rows of the unit that it rebuilds had other positions, or a gather has read them, so that
            the later phases have to be done again.
    """

    unit: str
    phase: int
    number: int
    ranges: Ranges
    rows: int
    account: CommitStats
    busy_s: Mapping[str, float]
    files: Sequence[UnitFile]
    fingerprint: str = ""
    individually_tracked: Sequence[int] = ()
    measures: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    replaced: frozenset[int] = frozenset()
    rebuilds: str = ""
    renumbers: bool = False

    def needed_files(self) -> Iterator[UnitFile]:
        """Yield the files without which records are lost: not the notes and new audio that no longer count."""
        left = {"data": self.books.kept, "filtered": self.books.filtered, "quarantine": self.books.quarantined}
        return (file for file in self.valid_files() if left.get(file.kind, 1))

    def valid_files(self) -> Iterator[UnitFile]:
        """Yield the files that the run still needs: not the new audio of outcomes that no longer count."""
        return (file for file in self.files if file.position is None or file.position not in self.replaced)

    def file(self, kind: UnitFileKind) -> UnitFile | None:
        """Return the commit's first file of a kind; None: it has none."""
        return next((file for file in self.files if file.kind == kind), None)

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
    found = heapq.merge(*(commit.valid_ranges() for commit in commits))
    return Intervals(((first, last) for first, last, _ in found), ascending=True)


def id_checksum(ids: Iterable[str]) -> int:
    """Return a checksum of ids that does not depend on their order, below 2**64; sums of it can be added.

    The cubes keep ids that only share their digits from adding up to the same sum.
    """
    total = 0
    for identity in ids:
        try:
            encoded = identity.encode()
        except UnicodeEncodeError:  # rare, and a check beforehand would take as long again
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
    """Return the commit of a unit, and the accounts of the roots whose outcome may be replaced.

    Args:
        rows: the unit's own rows, which are costly to sort twice.
    """
    accounts = {seq: CommitStats.of([settled]) for seq, settled in unit.individually_tracked().items()}
    seqs = sorted(seq for settled in unit.settled for seq in settled.seqs)
    commit = Commit(
        unit=unit.name,
        phase=phase,
        number=number,
        ranges=Ranges(ranges_of(seqs, rows.seqs, accounts)),
        rows=len(rows.rows),
        account=CommitStats.of(unit.settled, unit.books()),
        busy_s=dict(busy_s),
        files=(),
        individually_tracked=tuple(accounts),
        measures=unit.measures,
    )
    return commit, accounts
