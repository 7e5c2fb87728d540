"""What the scheduler and a worker say to each other. Messages carry records, never samples.

Those that cross a process boundary for every batch pickle as their bare fields, which is three times as fast as the
pickling of a dataclass with slots.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from curate.records import Record

OutputRow: TypeAlias = "Record | bytes"
"""A kept record: a dict on its way to the next hop or into memory, a line of JSON on its way to a shard."""


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
    """A record that a stage left out. `root` is the id under which it, or its ancestor, entered the hop."""

    root: str
    record: Record
    stage: str
    reason: str


@dataclass(slots=True)
class Quarantined:
    """A record that could not be worked on, as it was when it came to the stage that failed."""

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
class PartialResult:
    """The outcome of some records of one batch, each with everything that became of it (worker → driver).

    Receiving a part acknowledges every root named in it. `kept[i]` descends from `kept_roots[i]` and
    has `kept_ms[i]` milliseconds of audio.
    """

    number: int
    kept: list[OutputRow]
    kept_roots: list[str]
    kept_ms: list[int]
    filtered: list[Filtered] = field(default_factory=list[Filtered])
    quarantined: list[Quarantined] = field(default_factory=list[Quarantined])
    splits: list[Split] = field(default_factory=list[Split])
    busy_s: Sequence[float] = ()
    measures: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the stages have measured since the part before, by their names (`ProcessingStage.take_measures`)."""

    def __reduce__(self) -> tuple[Any, ...]:
        notes = self.filtered, self.quarantined, self.splits
        return PartialResult, (
            self.number,
            self.kept,
            self.kept_roots,
            self.kept_ms,
            *notes,
            self.busy_s,
            self.measures,
        )

    def roots(self) -> Iterator[str]:
        """Yield the roots that this part acknowledges; one with several outcomes comes several times."""
        yield from self.kept_roots
        for note in (*self.filtered, *self.quarantined):
            yield note.root


@dataclass(slots=True)
class Whole:
    """The outcome of a whole batch of which every record was kept, as one record (worker → driver).

    Most batches come back so. It needs no ids: `kept[i]` is what became of the batch's `i`-th record, which had
    `came_ms[i]` milliseconds of audio and now has `kept_ms[i]`; where no length has changed, these are the same list.
    """

    number: int
    kept: list[OutputRow]
    came_ms: list[int]
    kept_ms: list[int]
    busy_s: Sequence[float] = ()
    measures: dict[str, Any] = field(default_factory=dict[str, Any])
    """As in a part."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Whole, (self.number, self.kept, self.came_ms, self.kept_ms, self.busy_s, self.measures)

    def as_part(self, ids: list[str]) -> PartialResult:
        """Return the same as a part, given the ids of the batch's records."""
        return PartialResult(self.number, self.kept, ids, self.kept_ms, busy_s=self.busy_s, measures=self.measures)


Outcome: TypeAlias = "PartialResult | Whole"


@dataclass(slots=True)
class WorkerReady:
    """The worker has set up its stages."""

    worker: int


@dataclass(slots=True)
class RecordsAnnounced:
    """The worker is about to touch these records, or their descendants; if it dies, they are the suspects.

    A transport need not say it for every record: when a worker has died, and when `wait` has run out, is often enough.

    Args:
        number: the batch that they are of.
        touched: the hop's stages that are at work → the positions in the batch of the records that they, or their
            ancestors, were; None: any of the batch's.
    """

    worker: int
    number: int
    announced: Mapping[int, Sequence[int] | None]

    def positions(self) -> set[int] | None:
        """Return the positions in the batch that any stage is at; None: any of them."""
        if not self.announced or None in self.announced.values():
            return None
        return {position for some in self.announced.values() for position in some or ()}


@dataclass(slots=True)
class ResultReceived:
    """The worker has finished some records of a batch; `size` is what the message took, in bytes."""

    worker: int
    part: Outcome
    size: int = 0


@dataclass(slots=True)
class BatchDone:
    """The worker has finished the whole batch."""

    worker: int
    number: int


@dataclass(slots=True)
class BatchUnreadable:
    """The worker could not read a batch, and has not touched it."""

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
    """The worker is gone, or its place is.

    Args:
        reason: how, with the end of what it has written to its standard error.
        outside: it may well have been killed from outside: by hand, by a batch system, for want of memory.
        innocent: its end has to do with no record: its node is gone.
    """

    worker: int
    reason: str
    killed_externally: bool = False
    node_lost: bool = False


Event: TypeAlias = (
    "WorkerReady | RecordsAnnounced | ResultReceived | BatchDone | BatchUnreadable | WorkerFailed | WorkerDied"
)
