"""The messages between the scheduler and its workers. They carry records, never samples.

Those that cross a process boundary for every batch pickle as their bare fields, which is three times as fast as the
pickling of a dataclass with slots.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from curate.records import Record

OutputRow: TypeAlias = "Record | bytes"
"""A kept record: a dict on its way to the next hop or into memory, a line of JSON on its way to a unit file."""

AUDIO_MEASURES = "audio:"
"""Begins the name, among the measures of stages, of what a stage group has decoded; no stage's name has a colon."""


@dataclass(slots=True)
class BatchTask:
    """One batch for one worker (driver → worker)."""

    number: int
    records: list[Record]
    filepath_key: str
    task_id: str
    dataset_name: str

    def __reduce__(self) -> tuple[Any, ...]:
        return BatchTask, (self.number, self.records, self.filepath_key, self.task_id, self.dataset_name)

    def piece(self, number: int, records: list[Record]) -> BatchTask:
        """Return a batch of some of the records, under a number of its own."""
        return BatchTask(number, records, self.filepath_key, self.task_id, self.dataset_name)


@dataclass(slots=True)
class Filtered:
    """A record that a stage dropped on purpose. `root` is the id under which it, or its ancestor, entered the hop."""

    root: str
    record: Record
    stage: str
    reason: str


@dataclass(slots=True)
class JoinedPart:
    """A record that a gather joined with others to a new one.

    Args:
        joins: 1 for the last part of a new record, whose audio is `joins_ms`; 0 for the others.
    """

    record: Record
    stage: str
    joins: int = 0
    joins_ms: int = 0


@dataclass(slots=True)
class Quarantined:
    """A record that failed, as it was when it reached the stage that failed on it."""

    root: str
    record: Record
    stage: str
    code: str
    message: str
    traceback: str
    attempts: int


@dataclass(slots=True)
class Split:
    """A record that became `children` records at `stage`; audio in milliseconds."""

    root: str
    stage: str
    children: int
    parent_ms: int
    children_ms: int


@dataclass(slots=True)
class NewFile:
    """A file that a stage has made: new audio of a root, or a shard; it is durable when it is named here.

    Args:
        root: of a shard, the first of the records in it.
        path: relative to the run directory.
        size: in bytes.
        sha256: of the content, in hexadecimal digits.
    """

    root: str
    path: str
    size: int
    sha256: str
    kind: Literal["audio", "shard"] = "audio"


@dataclass(slots=True)
class PartialResult:
    """The outcome of some records of one batch, or of all of them (worker → driver).

    Receiving it acknowledges every root that it names, with everything that the root has become: `kept[i]` descends
    from `kept_roots[i]` and has `kept_ms[i]` milliseconds of audio.

    Most batches come back whole: every record was kept, as one record, in order. Then `kept_roots` is None, because no
    id needs to travel, and `input_ms` are the lengths that the records had when they came; where no length has changed
    it is the very list `kept_ms`, which is pickled once.
    """

    number: int
    kept: list[OutputRow]
    kept_roots: list[str] | None
    kept_ms: list[int]
    filtered: list[Filtered] = field(default_factory=list[Filtered])
    quarantined: list[Quarantined] = field(default_factory=list[Quarantined])
    splits: list[Split] = field(default_factory=list[Split])
    input_ms: list[int] | None = None
    busy_s: Sequence[float] = ()
    measures: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the stages have measured since the result before, by their names (`ProcessingStage.take_measures`)."""
    files: list[NewFile] = field(default_factory=list[NewFile])
    """New audio that the outcomes refer to, and shards that hold them; a result that names some is never whole."""

    def __reduce__(self) -> tuple[Any, ...]:
        notes = self.filtered, self.quarantined, self.splits
        own = self.number, self.kept, self.kept_roots, self.kept_ms, *notes, self.input_ms, self.busy_s, self.measures
        return PartialResult, (*own, self.files) if self.files else own

    @property
    def is_whole(self) -> bool:
        """Whether it is the outcome of all the batch's records, each of them kept as one record."""
        return self.kept_roots is None

    def with_roots(self, ids: Sequence[str]) -> PartialResult:
        """Return the same result with the roots of what is kept, given the ids of the batch's records."""
        if self.kept_roots is not None:
            return self
        return replace(self, kept_roots=list(ids), input_ms=None)

    def roots(self) -> Iterator[str]:
        """Yield the roots that a partial result acknowledges; one with several outcomes comes several times."""
        yield from self.kept_roots or ()
        for note in (*self.filtered, *self.quarantined):
            yield note.root


@dataclass(slots=True)
class WorkerReady:
    """The worker has set up its stages."""

    worker: int


@dataclass(slots=True)
class RecordsAnnounced:
    """The worker is about to touch these records, or their descendants; if it dies, they are the suspects.

    A transport need not send it for every record: when a worker has died, and when `wait` has timed out, is enough.

    Args:
        number: the number of their batch.
        stages: for each of the hop's stages that is at work, by its number, the positions in the batch of the records
            that it is about to touch, or of their ancestors; None: any of the batch's.
    """

    worker: int
    number: int
    stages: Mapping[int, Sequence[int] | None]

    def positions(self) -> set[int] | None:
        """Return the positions in the batch that any stage is at; None: any of them."""
        if not self.stages or None in self.stages.values():
            return None
        return {position for some in self.stages.values() for position in some or ()}


@dataclass(slots=True)
class ResultReceived:
    """The worker has finished some records of a batch; `size` is the size of the message in bytes."""

    worker: int
    result: PartialResult
    size: int = 0


@dataclass(slots=True)
class BatchDone:
    """The worker has finished the whole batch."""

    worker: int
    number: int


@dataclass(slots=True)
class BatchUnreadable:
    """The worker could not unpickle a batch, and has processed none of it."""

    worker: int
    number: int
    reason: str


@dataclass(slots=True)
class WorkerFailed:
    """The worker met a failure that no record caused. Before `WorkerReady`, another worker is tried."""

    worker: int
    error: Exception


@dataclass(slots=True)
class WorkerDied:
    """The worker has ended, or its node is lost.

    Args:
        reason: how it ended, with the end of what it has written to its standard error.
        killed_externally: whether a user, a batch system or the kernel's memory killer may have ended it.
        node_lost: whether its node is gone, which no record can have caused.
    """

    worker: int
    reason: str
    killed_externally: bool = False
    node_lost: bool = False


Event: TypeAlias = (
    "WorkerReady | RecordsAnnounced | ResultReceived | BatchDone | BatchUnreadable | WorkerFailed | WorkerDied"
)
