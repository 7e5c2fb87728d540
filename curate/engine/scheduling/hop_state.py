"""One hop as the scheduler sees it: its queue, its workers, and the size of its batches."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Sequence

from curate.engine.protocol.messages import BatchTask, PartialResult
from curate.engine.scheduling.batch_sizer import BatchSizer
from curate.engine.scheduling.worker_pool import IN_FLIGHT_BYTES, InFlight, WorkerPool, WorkerState
from curate.plan import Hop, PlannedStage
from curate.records import string_bytes
from curate.stage import ProcessingStage, called_method

QUEUE_BYTES = 256 * 1024 * 1024
"""The hop before accepts no more batches while this many bytes wait."""

_SAMPLED = 8
"""The records of a batch from the source by whose strings its size is estimated."""


class HopQueue:
    """A bounded queue of batches; only its methods change it.

    Batches are kept by the number of the task that they came from, so that the parts in which a worker hands a batch on
    travel together again.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, BatchTask] = {}
        self._bytes: dict[int, int] = {}
        self.bytes = 0
        """The size of the batches that wait, as far as it is known or estimated."""
        self._unmergeable: set[int] = set()
        """Batches that travel with no others, because a record on which they have failed is being looked for."""
        self.suspects: deque[BatchTask] = deque()
        """Single records that go alone."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def records(self) -> int:
        """How many records wait, suspects left out."""
        return sum(len(task.records) for task in self._waiting.values())

    def is_full(self, workers: int) -> bool:
        """Return whether the hop before must wait; some batches are queued for each of the `workers` then."""
        if len(self._waiting) > 2 * max(1, workers):
            return True
        return self.bytes >= QUEUE_BYTES

    def put(self, task: BatchTask, *, origin: int | None = None, size: int = 0) -> None:
        """Queue a batch of `size` bytes; parts of the same `origin` become one batch. A size of 0 is estimated."""
        key = task.number if origin is None else origin
        if origin is None and not size:
            sample = task.records[:: max(1, len(task.records) // _SAMPLED)]
            size = sum(map(string_bytes, sample)) * len(task.records) // max(1, len(sample))
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = task
        else:
            waiting.records.extend(task.records)
        if size:
            self._bytes[key] = self._bytes.get(key, 0) + size
            self.bytes += size

    def requeue(self, tasks: Sequence[BatchTask], *, unmergeable: bool = False) -> None:
        """Queue batches in front of all others, because they have waited before."""
        self._waiting = {task.number: task for task in tasks} | self._waiting
        if unmergeable:
            self._unmergeable.update(task.number for task in tasks)

    def take(self) -> BatchTask:
        """Remove and return the batch that has waited longest."""
        key = next(iter(self._waiting))
        self.bytes -= self._bytes.pop(key, 0)
        self._unmergeable.discard(key)
        return self._waiting.pop(key)

    def take_mergeable(self, limit: int) -> list[BatchTask]:
        """Remove and return the batch that has waited longest, and up to `limit - 1` like it that wait behind it.

        Together they are not much larger than one batch may be.
        """
        first = next(iter(self._waiting.values()))
        like = (first.filepath_key, first.dataset_name)
        count = size = 0
        for key, task in itertools.islice(self._waiting.items(), limit):
            if task.number in self._unmergeable or (task.filepath_key, task.dataset_name) != like:
                break
            size += self._bytes.get(key, 0)
            if count and size > IN_FLIGHT_BYTES:
                break
            count += 1
        return [self.take() for _ in range(max(1, count))]

    def clear(self) -> None:
        """Drop the batches that no worker has begun; a later attempt of the run works on them."""
        self._waiting.clear()
        self._bytes.clear()
        self.bytes = 0
        self._unmergeable.clear()

    def add_suspects(self, tasks: Iterable[BatchTask]) -> None:
        """Queue single records that go alone, one at a time."""
        self.suspects.extend(tasks)

    def retry_suspect(self, task: BatchTask) -> None:
        """Queue a suspect that has failed alone, to be tried next."""
        self.suspects.appendleft(task)

    def take_suspect(self) -> BatchTask:
        """Remove and return the suspect that has waited longest."""
        return self.suspects.popleft()


class HopState:
    """The state of one hop during a phase.

    Args:
        hop: the planned hop.
        number: its place in the phase.
        max_in_flight: how many batches the transport lets a worker have.
        merges: whether short batches may travel together.
    """

    def __init__(self, hop: Hop, number: int, max_in_flight: int, *, merges: bool = True) -> None:
        self.hop = hop
        self.number = number
        self.queue = HopQueue()
        self.workers = WorkerPool()
        self.keeps_whole = any(planned.stage.whole_batches for planned in hop.stages)
        """Whether batches are neither split nor merged. None is sent ahead then: another worker may be free first."""
        self.sizer = BatchSizer(
            1 if self.keeps_whole else max_in_flight,
            merges=merges and not self.keeps_whole and all(map(_takes_records, hop.stages)),
        )
        self.worked_s = 0.0
        """Time that the stages have worked, in seconds over all workers."""
        self._busy_s: list[float] = []

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not (self.queue or self.queue.suspects) and self.workers.is_idle

    @property
    def is_full(self) -> bool:
        """Whether the hop before must wait."""
        return self.queue.is_full(len(self.workers))

    def at_work(self) -> list[str]:
        """Return the stages that work: those for which workers have announced records; without any, all of the hop."""
        if self.is_idle:
            return []
        announced = [worker.announced for worker in self.workers if worker.in_flight and worker.announced is not None]
        levels = {level for each in announced for level in each.stages}
        return [planned.name for level, planned in enumerate(self.hop.stages) if level in levels or not levels]

    def record_result(self, worker: WorkerState, result: PartialResult) -> InFlight:
        """Record the outcome of some records of a batch, and return the batch."""
        self._busy_s.extend([0.0] * (len(result.busy_s) - len(self._busy_s)))
        for level, spent in enumerate(result.busy_s):
            self._busy_s[level] += spent
            self.worked_s += spent
        return self.workers.record_result(worker, result)

    def record_done(self, worker: WorkerState, number: int) -> InFlight:
        """Record that a worker is done with a batch, and return the batch."""
        flight = self.workers.release(worker, number)
        if flight.task.records and not flight.isolated:
            self.sizer.record_batch(flight.busy_s, len(flight.task.records), flight.batches)
        return flight

    def take_busy_s(self) -> dict[str, float]:
        """Return how long each stage has worked since the last call, in seconds over all workers."""
        taken = {planned.name: spent for planned, spent in zip(self.hop.stages, self._busy_s, strict=False)}
        self._busy_s = []
        return taken


def _takes_records(planned: PlannedStage[ProcessingStage]) -> bool:
    """Return whether a stage is called with one record at a time, and so never sees a batch."""
    stage = planned.stage
    return called_method(stage) == "process_record"
