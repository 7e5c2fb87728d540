"""The workers of one hop, and the batches that each of them has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from curate.engine.protocol.messages import BatchTask, PartialResult, RecordsAnnounced
from curate.records import ID, Record, audio_ms

IN_FLIGHT_BYTES = 64 * 1024 * 1024
"""A worker gets no second batch while it has this many bytes."""


@dataclass(slots=True)
class InFlight:
    """A batch that a worker has, and what of it is acknowledged.

    Args:
        size: bytes of its message.
        isolated: whether it is one suspected record, alone with its worker.
        batches: how many batches of the queue travel in it.
        busy_s: stage time that the worker has reported for it.
    """

    task: BatchTask
    size: int
    isolated: bool
    batches: int = 1
    busy_s: float = 0.0
    results: list[PartialResult] = field(default_factory=list[PartialResult])

    @property
    def audio_s(self) -> float:
        """Length of the audio of all its records."""
        return sum(map(audio_ms, self.task.records)) / 1000

    def unfinished(self) -> list[Record]:
        """Return the records that are not acknowledged."""
        finished: set[str] = set()
        for result in self.results:
            if result.is_whole:
                return []
            finished.update(result.roots())
        return [record for record in self.task.records if record[ID] not in finished]


@dataclass(slots=True)
class WorkerState:
    """What the scheduler knows of one worker.

    Args:
        last_progress_s: when the last sign came that it makes progress, by the scheduler's clock.
        timed_out: the deadline that it missed, in seconds; None: none.
    """

    number: int
    slot: int
    last_progress_s: float
    ready: bool = False
    in_flight: dict[int, InFlight] = field(default_factory=dict[int, InFlight])
    announced: RecordsAnnounced | None = None
    size: int = 0
    timed_out: float | None = None

    @property
    def current(self) -> InFlight | None:
        """The batch that it works on: the one that it last announced records of, or else its oldest."""
        if self.announced is not None and self.announced.number in self.in_flight:
            return self.in_flight[self.announced.number]
        return next(iter(self.in_flight.values()), None)

    @property
    def is_isolating(self) -> bool:
        """Whether it is alone with a suspect."""
        return any(flight.isolated for flight in self.in_flight.values())


class WorkerPool:
    """The workers of one hop; only its methods change them."""

    def __init__(self) -> None:
        self._workers: dict[int, WorkerState] = {}
        self.longest_silence_s = 0.0
        """The longest time that a worker was silent before it returned a result."""

    def __len__(self) -> int:
        return len(self._workers)

    def __iter__(self) -> Iterator[WorkerState]:
        return iter(self._workers.values())

    def __contains__(self, worker: WorkerState) -> bool:
        return worker.number in self._workers

    def find(self, number: int) -> WorkerState | None:
        """Return the worker of a number; None: it was removed."""
        return self._workers.get(number)

    @property
    def is_idle(self) -> bool:
        """Whether no batch is in flight."""
        return not any(worker.in_flight for worker in self._workers.values())

    @property
    def is_isolating(self) -> bool:
        """Whether a suspect is in flight; suspects go one at a time."""
        return any(worker.is_isolating for worker in self._workers.values())

    def idle(self) -> list[WorkerState]:
        """Return the workers that have no batch, those that are still being set up among them."""
        return [worker for worker in self._workers.values() if not worker.in_flight]

    def find_free(self, depth: int, *, reserve: bool) -> WorkerState | None:
        """Return the ready worker that has fewest batches, of those with fewer than `depth`; None: there is none.

        Args:
            reserve: whether the least busy worker gets nothing, so that it will be alone with a suspect that waits.
        """
        ready = [worker for worker in self._workers.values() if worker.ready]
        reserved = min(ready, key=lambda worker: len(worker.in_flight), default=None) if reserve else None
        free: WorkerState | None = None
        for worker in ready:
            load = len(worker.in_flight)
            if worker is reserved or load >= depth or (load and worker.size >= IN_FLIGHT_BYTES):
                continue
            if load == 1 and worker.is_isolating:
                continue
            if free is None or load < len(free.in_flight):
                free = worker
        return free

    def add(self, number: int, slot: int, now: float) -> None:
        """Add a worker that is being set up in a slot of the hop."""
        self._workers[number] = WorkerState(number, slot, now)

    def remove(self, worker: WorkerState) -> None:
        """Remove a worker that is gone."""
        del self._workers[worker.number]

    def mark_ready(self, worker: WorkerState) -> None:
        """Record that a worker is set up."""
        worker.ready = True

    def assign(
        self, worker: WorkerState, task: BatchTask, size: int, now: float, *, isolated: bool = False, batches: int = 1
    ) -> None:
        """Record that a batch of `size` bytes was sent to a worker."""
        if not worker.in_flight:
            worker.last_progress_s = now
        worker.in_flight[task.number] = InFlight(task, size, isolated, batches)
        worker.size += size

    def release(self, worker: WorkerState, number: int) -> InFlight:
        """Record that a worker does not have a batch any more, and return the batch."""
        flight = worker.in_flight.pop(number)
        worker.size -= flight.size
        return flight

    def record_progress(self, worker: WorkerState, now: float, *, polled: bool) -> None:
        """Record a sign that a worker makes progress; one that was `polled` may be old, so it measures no silence."""
        if worker.in_flight and not polled:
            self.longest_silence_s = max(self.longest_silence_s, now - worker.last_progress_s)
        worker.last_progress_s = now

    def record_announcement(self, worker: WorkerState, announced: RecordsAnnounced) -> None:
        """Record which records a worker is about to touch."""
        worker.announced = announced

    def record_result(self, worker: WorkerState, result: PartialResult) -> InFlight:
        """Record the outcome of some records of a batch, and return the batch."""
        flight = worker.in_flight[result.number]
        flight.results.append(result)
        flight.busy_s += sum(result.busy_s)
        return flight

    def mark_timed_out(self, worker: WorkerState, timeout_s: float) -> None:
        """Record that a worker has missed its deadline and is being killed."""
        worker.timed_out = timeout_s
