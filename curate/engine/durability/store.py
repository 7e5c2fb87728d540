"""The store of a run's finished records, as the engine sees it, and its implementation in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol, cast

import attrs

from curate.engine.durability.commit import Commit, CommitBuffer, OutputRows, describe_unit, positions_of
from curate.engine.durability.positions import InputPositions, Intervals
from curate.engine.protocol.messages import Filtered, Quarantined
from curate.io.rows import encode_row, without_id
from curate.records import ID, Record, RecordReader
from curate.stage import ShardFile


class Store(Protocol):
    """The store of a run's finished records."""

    encodes: bool
    """Whether rows are lines of JSON (True) or records."""

    def places(self, phase: int) -> InputPositions:
        """Return the positions of a phase's input; the phase before has to be complete."""
        ...

    def retried(self, phase: int) -> Collection[int]:
        """Return the positions of roots that had failed and are to be done again."""
        ...

    def done(self, phase: int) -> Intervals:
        """Return the positions in a phase's input that are finished."""
        ...

    def commit(self, phase: int, unit: CommitBuffer, busy_s: Mapping[str, float]) -> Commit:
        """Make a unit permanent."""
        ...

    def commits(self, phase: int) -> Sequence[Commit]:
        """Return a phase's commits."""
        ...

    def complete(self, phase: int) -> None:
        """Record that a phase has worked on all of its input."""
        ...

    def is_complete(self, phase: int) -> bool:
        """Return whether `complete` was called, in this attempt or an earlier one."""
        ...

    def reader(self, phase: int) -> RecordReader:
        """Return the records that a phase has kept, in the order of its input."""
        ...

    def shards(self, phase: int) -> Sequence[ShardFile]:
        """Return the shards that a phase has made, in the order of its input."""
        ...

    def failures(self) -> Iterator[tuple[int, Record]]:
        """Yield the phase and the note, a line of `quarantine/`, of every record that has failed."""
        ...


class MemoryStore:
    """Keeps results in memory, for pipelines that publish no files."""

    encodes = False

    def __init__(self) -> None:
        self._rows: dict[int, OutputRows] = {}
        self._commits: dict[int, list[Commit]] = {}
        self.filtered: list[Filtered] = []
        self.quarantined: list[Quarantined] = []

    def places(self, phase: int) -> InputPositions:
        return InputPositions()

    def retried(self, phase: int) -> Collection[int]:
        return ()

    def done(self, phase: int) -> Intervals:
        return positions_of(self.commits(phase))

    def commit(self, phase: int, unit: CommitBuffer, busy_s: Mapping[str, float]) -> Commit:
        rows = unit.rows()
        commits = self._commits.setdefault(phase, [])
        unit.name = f"p{phase}-{len(commits):06d}"
        commit, _ = describe_unit(unit, len(commits), phase, rows, busy_s)
        commits.append(commit)
        kept = self._rows.setdefault(phase, OutputRows())
        kept.seqs += rows.seqs
        kept.rows += rows.rows
        self.filtered.extend(note for _, note in unit.filtered())
        self.quarantined.extend(note for _, note in unit.quarantined())
        return commit

    def commits(self, phase: int) -> Sequence[Commit]:
        return self._commits.get(phase, [])

    def complete(self, phase: int) -> None:
        self._rows.setdefault(phase, OutputRows()).sort()

    def is_complete(self, phase: int) -> bool:
        return False

    def reader(self, phase: int) -> RecordReader:
        return _MemoryReader(cast("list[Record]", self._rows.get(phase, OutputRows()).rows))

    def shards(self, phase: int) -> Sequence[ShardFile]:
        return ()

    def failures(self) -> Iterator[tuple[int, Record]]:
        for note in self.quarantined:
            yield 0, {ID: note.record[ID], "stage": note.stage, "code": note.code, "message": note.message}


@attrs.frozen
class _MemoryReader:
    records: list[Record]

    def __iter__(self) -> Iterator[Record]:
        return (dict(record) for record in self.records)

    def lines(self) -> Iterator[bytes]:
        return (without_id(encode_row(record)) for record in self.records)
