"""One hop as the scheduler sees it: its workers, and what waits for them."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from curate.engine.protocol.messages import BatchTask, Outcome, PartialResult, RecordsAnnounced, Whole
from curate.plan import Hop, PlannedStage
from curate.records import ID, Record, audio_ms_of, durations_of
from curate.stage import ProcessingStage, called_method

QUEUE_BYTES = 256 * 1024 * 1024
"""A hop takes no more in while so much waits behind it."""

IN_FLIGHT_BYTES = 64 * 1024 * 1024
"""A worker gets no second batch while it has so much."""

LONG_BATCH_S = 2.0
"""Where a batch takes so long, the next one need not wait at the worker; here it can still be split for an idle one."""

COVERED_S = 0.005
"""Short batches are sent so far ahead, in seconds of work, that no worker waits for a message."""

WORTH_SPLITTING_S = 0.01
"""What is done sooner is not split."""

MESSAGE_S = 0.002
"""Where stages look at one record at a time, batches that are done sooner travel together: the stages cannot tell."""

MOST_MERGED = 64
"""So many batches travel together at most."""

HANDLING_S = 2e-6
"""What a record costs a worker beside the stages' work, about: most of it is pickling."""


@dataclass(slots=True)
class InFlight:
    """A batch that a worker has, and what of it is acknowledged."""

    work: BatchTask
    size: int
    isolated: bool
    batches: int = 1
    parts: list[Outcome] = field(default_factory=list["Outcome"])

    @property
    def audio_s(self) -> float:
        """How long the audio of all its records is."""
        return sum(audio_ms_of(durations_of(self.work.records))) / 1000

    def unfinished(self) -> list[Record]:
        """Return the records that are not acknowledged."""
        if any(isinstance(part, Whole) for part in self.parts):
            return []
        finished = {root for part in self.parts if isinstance(part, PartialResult) for root in part.roots()}
        return [record for record in self.work.records if record[ID] not in finished]


@dataclass(slots=True)
class WorkerState:
    """One worker. `last_progress_s` is when there was the last sign that it gets on."""

    number: int
    slot: int
    last_progress_s: float
    ready: bool = False
    in_flight: dict[int, InFlight] = field(default_factory=dict[int, InFlight])
    announced: RecordsAnnounced | None = None
    size: int = 0
    busy_s: float = 0.0
    timed_out: float | None = None

    @property
    def current(self) -> InFlight | None:
        """The batch that it works on: the one it was last heard of, or the oldest."""
        if self.announced is not None and self.announced.number in self.in_flight:
            return self.in_flight[self.announced.number]
        return next(iter(self.in_flight.values()), None)


class HopState:
    """The workers of a hop and the batches that wait for them.

    Args:
        hop: the planned hop.
        number: its place in the phase.
        most_in_flight: how many batches the transport lets a worker have.
        merges: whether short batches may travel together.
    """

    def __init__(self, hop: Hop, number: int, most_in_flight: int, *, merges: bool = True) -> None:
        self.hop = hop
        self.number = number
        self.workers: dict[int, WorkerState] = {}
        # By the number of the work that a batch came from, so that what is handed on in small parts travels together.
        self.waiting: dict[int, BatchTask] = {}
        self._unmergeable: set[int] = set()
        """Those of them that travel with no others, because a record on which they have failed is looked for."""
        self.suspects: deque[BatchTask] = deque()
        """Single records that go alone, one at a time, because a worker has died on them or on their neighbours."""
        self.busy_s: list[float] = []
        self._sizes: dict[int, int] = {}
        self._most_in_flight = most_in_flight
        self._merges = merges and all(map(_takes_records, hop.stages))
        self.merged = 1
        """How many batches are to travel together."""
        self.depth = 1
        """How many batches a worker should have: one that it works on, and enough to cover a message."""
        self._batch_s: float | None = None
        self._record_s: float | None = None
        """How long a worker has a batch, and how long stages work on a record of it; None: not known yet."""
        self.worked_s = 0.0
        """How long the stages have worked, in seconds over all workers."""
        self.slowest_s = 0.0
        """The longest that a worker was silent before it handed something on."""

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not (self.waiting or self.suspects or any(worker.in_flight for worker in self.workers.values()))

    @property
    def full(self) -> bool:
        """Whether so much waits that the hop before must not go on."""
        if len(self.waiting) > 2 * max(1, len(self.workers)):
            return True
        return bool(self._sizes) and sum(self._sizes.values()) >= QUEUE_BYTES

    def put(self, work: BatchTask, *, origin: int | None = None, size: int = 0) -> None:
        """Queue a batch; what comes from the same `origin` travels together."""
        key = work.number if origin is None else origin
        waiting = self.waiting.get(key)
        if waiting is None:
            self.waiting[key] = work
        else:
            waiting.records.extend(work.records)
        if size:
            self._sizes[key] = self._sizes.get(key, 0) + size

    def requeue(self, works: list[BatchTask], *, apart: bool = False) -> None:
        """Queue batches that have waited before; `apart` keeps them from travelling together."""
        self.waiting = {work.number: work for work in works} | self.waiting
        if apart:
            self._unmergeable.update(work.number for work in works)

    def take(self) -> BatchTask:
        """Return the batch that has waited longest."""
        key = next(iter(self.waiting))
        self._sizes.pop(key, None)
        self._unmergeable.discard(key)
        return self.waiting.pop(key)

    def take_together(self) -> list[BatchTask]:
        """Return the batch that has waited longest, and those behind it that are to travel with it."""
        first = next(iter(self.waiting.values()))
        like = (first.filepath_key, first.dataset_name)
        count = 0
        for work in itertools.islice(self.waiting.values(), self.merged):
            if work.number in self._unmergeable or (work.filepath_key, work.dataset_name) != like:
                break
            count += 1
        return [self.take() for _ in range(max(1, count))]

    def free_worker(self) -> WorkerState | None:
        """Return the worker that has least to do, or None if all have enough.

        While a suspect waits, the least busy worker gets nothing else, so that it will be alone with it.
        """
        depth, reserved = self.depth, self._reserved()
        free: WorkerState | None = None
        for worker in self.workers.values():
            load = len(worker.in_flight)
            if not worker.ready or worker is reserved or load >= depth or (load and worker.size >= IN_FLIGHT_BYTES):
                continue
            if load == 1 and next(iter(worker.in_flight.values())).isolated:
                continue
            if free is None or load < len(free.in_flight):
                free = worker
        return free

    def _reserved(self) -> WorkerState | None:
        if not self.suspects or self.tries_suspect():
            return None
        ready = (worker for worker in self.workers.values() if worker.ready)
        return min(ready, key=lambda worker: len(worker.in_flight), default=None)

    def tries_suspect(self) -> bool:
        """Return whether a suspect is in flight: they go one at a time."""
        return any(flight.isolated for worker in self.workers.values() for flight in worker.in_flight.values())

    def idle_workers(self) -> list[WorkerState]:
        """Return the workers that have nothing to do, those that are still set up among them."""
        return [worker for worker in self.workers.values() if not worker.in_flight]

    def split_count(self, work: BatchTask, *, last: bool, idle: int) -> int:
        """Return in how many pieces a batch should go out, so that nobody is idle while others have much.

        Args:
            last: no more work will come to this hop; batches then go out in ever smaller pieces, so that all workers
                end at about the same time.
            idle: how many workers have nothing to do and nothing else to get.
        """
        count = len(work.records)
        if self._record_s is not None and self._record_s * count < WORTH_SPLITTING_S:
            return 1
        split_count = idle
        if last and self._record_s is not None:
            waiting = sum(len(other.records) for other in self.waiting.values())
            workers = max(1, len(self.workers))
            if workers > 1:
                piece = max(1, -(-waiting // (2 * workers)), math.ceil(WORTH_SPLITTING_S / max(self._record_s, 1e-9)))
                split_count = max(split_count, count // piece)
        return max(1, min(split_count, count))

    def note_part(self, worker: WorkerState, part: Outcome) -> None:
        """Take in how long the stages have worked for a part."""
        self.busy_s.extend([0.0] * (len(part.busy_s) - len(self.busy_s)))
        for level, spent in enumerate(part.busy_s):
            self.busy_s[level] += spent
            self.worked_s += spent
            worker.busy_s += spent

    def note_done(self, worker: WorkerState, flight: InFlight) -> None:
        """Take in how long a batch has taken."""
        spent, worker.busy_s = worker.busy_s, 0.0
        if flight.isolated or not flight.work.records:
            return
        records = len(flight.work.records)
        self._record_s = _smoothed(self._record_s, spent / records)
        self._batch_s = _smoothed(self._batch_s, (spent + HANDLING_S * records) / flight.batches)
        if self._merges:
            self.merged = max(1, min(MOST_MERGED, math.ceil(MESSAGE_S / self._batch_s)))
        message_s = self.merged * self._batch_s
        ahead = 0 if message_s >= LONG_BATCH_S else math.ceil(COVERED_S / message_s)
        self.depth = min(self._most_in_flight, 1 + ahead)

    def note_progress(self, worker: WorkerState, now: float, *, looked: bool) -> None:
        """Take in a sign that a worker gets on; one that was `looked` for may be older, so it measures no silence."""
        if worker.in_flight and not looked:
            self.slowest_s = max(self.slowest_s, now - worker.last_progress_s)
        worker.last_progress_s = now

    def records_waiting(self) -> Iterator[int]:
        """Yield the size of every waiting batch, in records."""
        return (len(work.records) for work in self.waiting.values())


def _smoothed(before: float | None, now: float) -> float:
    return now if before is None else 0.7 * before + 0.3 * now


def _takes_records(planned: PlannedStage) -> bool:
    """Return whether a stage is called with one record at a time, and so never sees a batch."""
    stage = planned.stage
    return isinstance(stage, ProcessingStage) and called_method(stage) == "process_record"
