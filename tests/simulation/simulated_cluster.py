"""A cluster on one thread: the real driver, and workers whose results come when a real cluster's would.

Scheduler, accounting and commits are the engine's own; only time and workers are simulated. Workers run the stages, so
books and files are real. A batch or result costs the driver the pickling that `multiprocessing` does. The CPU time of
the driver is measured apart from that of the workers, so `driver CPU seconds / simulated seconds` is its utilisation.

With a `DriverCost`, the clock also advances by what messages cost the driver: a driver that cannot keep up then leaves
its workers idle, as a real one would. Without it, the driver is infinitely fast, and only its utilisation is of use.
"""

from __future__ import annotations

import copy
import hashlib
import heapq
import itertools
import pickle
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from curate import AudioBatch, ProcessingStage
from curate.engine.protocol.messages import BatchDone, BatchTask, Event, PartialResult, ResultReceived, WorkerReady
from curate.engine.protocol.transport import HopSpec
from curate.engine.worker.stage_group import StageGroupRunner
from curate.executors.worker_process import pickled
from curate.io.rows import encode_row
from curate.plan import Plan
from curate.records import Record

ServiceTime: TypeAlias = Callable[[float, int], float]
"""The audio of a result in seconds, and the number of its records → how many seconds a worker takes for it."""

H200_MS = {20: 30.2, 200: 31.2, 638: 35.7, 1000: 52.2, 1600: 79.9, 3200: 160.2, 6400: 313.5}
"""Padded seconds → milliseconds a batch, measured for a FastConformer of 115 M parameters (docs/benchmarks.md)."""


def model_alone(audio_s: float, records: int) -> float:
    """Return the time of a batch of the model alone on an H200."""
    return float(np.interp(audio_s, list(H200_MS), list(H200_MS.values()))) / 1000


@dataclass(frozen=True)
class RealTimeFactor:
    """The time of a batch of a recogniser that transcribes `factor` seconds of audio in a second."""

    factor: float

    def __call__(self, audio_s: float, records: int) -> float:
        return audio_s / self.factor


@dataclass(frozen=True)
class DriverCost:
    """What messages cost the driver, in seconds.

    Args:
        event_s: a message, whatever it holds.
        record_s: a record of a result, on its way from the source to the commit.
    """

    event_s: float
    record_s: float


@dataclass
class SimulatedClock:
    """Seconds that pass only where the driver waits, or is charged."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class SimulatedRecogniser(ProcessingStage):
    """Transcribes by copying the text, in batches of similar length, and streams them as a recogniser does.

    Args:
        batch_audio_s: the padded seconds of a batch at most.
    """

    batch_audio_s: float = 1600.0
    name: str = "recogniser"

    def reads(self) -> tuple[str, ...]:
        return ("duration", "text")

    def writes(self) -> tuple[str, ...]:
        return ("pred_text",)

    def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
        left = sorted(batch.data, key=lambda record: record["duration"], reverse=True)
        while left:
            size = max(1, int(self.batch_audio_s / left[0]["duration"]))
            together, left = left[:size], left[size:]
            yield AudioBatch([{**record, "pred_text": record["text"]} for record in together])


@dataclass(frozen=True)
class Sample:
    """The driver at one moment of a phase.

    Args:
        at_s: simulated time.
        cpu_s: CPU time of the driver since the beginning of the phase.
        events: messages received, and
        records: records in the results among them.
        busy_s: the time that workers have worked, over all of them.
    """

    at_s: float
    cpu_s: float
    events: int
    records: int
    busy_s: float


class SimulatedExecutor:
    """Workers in simulated time.

    Args:
        workers: for each hop of which the pipeline does not say how many it has.
        service: the service time of a result.
        seed: of the differences between workers.
        jitter: a worker takes up to this share longer or shorter for a result.
        setup_s: the time of a worker's set-up.
        cost: what messages cost the driver; None: nothing.
    """

    name = "simulated"

    def __init__(
        self,
        workers: int,
        service: ServiceTime,
        *,
        seed: int = 0,
        jitter: float = 0.2,
        setup_s: float = 20.0,
        cost: DriverCost | None = None,
    ) -> None:
        self.workers = workers
        self.service = service
        self.jitter = jitter
        self.setup_s = setup_s
        self.cost = cost
        self.clock = SimulatedClock()
        self.dice = random.Random(seed)
        self.transports: list[SimulatedTransport] = []
        self._trace = hashlib.sha256()

    @property
    def trace(self) -> str:
        """A checksum of everything that was sent and received, and when."""
        return self._trace.hexdigest()

    def record(self, *what: object) -> None:
        """Add an event to the trace."""
        self._trace.update(repr((self.clock.now, *what)).encode())

    def check(self, plan: Plan) -> None:
        pass

    def open(self, hops: Sequence[HopSpec]) -> SimulatedTransport:
        self.transports.append(SimulatedTransport(self, hops))
        return self.transports[-1]

    def close(self) -> None:
        pass


@dataclass
class SimulatedWorker:
    """One worker, with the batches that were sent to it."""

    number: int
    runner: StageGroupRunner
    inbox: deque[tuple[float, bytes]] = field(default_factory=deque[tuple[float, bytes]])
    """When a batch was sent, and the batch."""
    free_s: float = 0.0
    """When it finished the result before; it does not wait until a late driver has received it."""
    batch: int = 0
    results: Iterator[PartialResult] | None = None
    """Of the batch that it works on; None: it works on none."""


class SimulatedTransport:
    max_in_flight = 64
    setup_attempts = 1
    setup_timeout_s = 1800.0
    can_kill = True

    def __init__(self, executor: SimulatedExecutor, hops: Sequence[HopSpec]) -> None:
        self._executor = executor
        self._specs = hops
        self._clock = executor.clock
        self._workers: list[SimulatedWorker] = []
        self._started = [0 for _ in hops]
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, int, bytes | None, int]] = []
        """When, in which order, from which worker, what result (None: no result), of how many records."""
        self._outside_s = 0.0
        self._began_s = time.thread_time()
        self._events = self._records = 0
        self._busy_s = 0.0
        self.samples: list[Sample] = []

    # What the scheduler calls.

    def room(self, hop: int) -> int:
        wanted = self._specs[hop].hop.workers
        return (self._executor.workers if wanted is None else wanted) - self._started[hop]

    def start(self, hop: int, slot: int) -> int:
        with self._outside():
            self._started[hop] += 1
            spec, number = self._specs[hop], len(self._workers)
            stages = [stage for planned in spec.hop.stages if isinstance(stage := planned.stage, ProcessingStage)]
            encode = encode_row if spec.encodes else None
            runner = StageGroupRunner(copy.deepcopy(stages), context=spec.context, encode=encode, blamed=spec.blamed)
            runner.setup()
            self._workers.append(SimulatedWorker(number, runner))
            ready_s = self._clock.now + self._executor.setup_s * self._executor.dice.uniform(1, 2)
            self._later(ready_s, number, None, 0)
        return number

    def send(self, worker: int, work: BatchTask) -> int:
        payload = pickled(work)
        with self._outside():
            self._executor.record("sent", worker, work.number, len(work.records))
            state = self._workers[worker]
            state.inbox.append((self._clock.now, payload))
            if state.results is None:
                self._begin(state)
        return len(payload)

    def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
        with self._outside():
            end = float("inf") if timeout_s is None else self._clock.now + timeout_s
            assert self._agenda or timeout_s is not None, "no worker has anything to do"
            if not self._agenda or self._agenda[0][0] > end:
                self._clock.now = end
                return []
            self._clock.now = max(self._clock.now, self._agenda[0][0])
            due: list[tuple[float, int, int, bytes | None, int]] = []
            while self._agenda and self._agenda[0][0] <= self._clock.now:
                due.append(heapq.heappop(self._agenda))
        return [self._received(worker, payload, records) for _, _, worker, payload, records in due]

    def kill(self, worker: int) -> None:
        raise AssertionError(f"worker {worker} has missed a deadline at {self._clock.now:.1f} s")

    def close(self) -> None:
        self._sample()
        for worker in self._workers:
            worker.runner.teardown()

    # What the workers do.

    def _received(self, number: int, payload: bytes | None, records: int) -> Event:
        """Return the event for the driver, and let its worker continue."""
        event: Event | None = None
        if payload is not None:
            event = ResultReceived(number, pickle.loads(payload), len(payload))
        with self._outside():
            worker = self._workers[number]
            if event is None:
                event = WorkerReady(number) if worker.results is None else BatchDone(number, worker.batch)
            self._executor.record(type(event).__name__, number, worker.batch, records)
            cost = self._executor.cost
            if cost is not None:
                self._clock.now += cost.event_s + cost.record_s * records
            self._events += 1
            self._records += records
            if isinstance(event, ResultReceived):
                self._continue(worker)
            elif isinstance(event, BatchDone):
                worker.results = None
                if worker.inbox:
                    self._begin(worker)
            if self._events % 16 == 0:
                self._sample()
        return event

    def _begin(self, worker: SimulatedWorker) -> None:
        sent_s, payload = worker.inbox.popleft()
        worker.free_s = max(worker.free_s, sent_s)
        task: BatchTask = pickle.loads(payload)
        worker.batch, worker.results = task.number, worker.runner.run(task, lambda: task.records)
        self._continue(worker)

    def _continue(self, worker: SimulatedWorker) -> None:
        """Compute a worker's next result, which the driver will receive when its service time has passed."""
        assert worker.results is not None
        result = next(worker.results, None)
        if result is None:
            self._later(worker.free_s, worker.number, None, 0)
            return
        records = len(result.kept) + len(result.filtered) + len(result.quarantined)
        jitter = self._executor.jitter
        slower = self._executor.dice.uniform(1 - jitter, 1 + jitter)
        service_s = slower * self._executor.service(_audio_s(result), records)
        self._busy_s += service_s
        worker.free_s += service_s
        result.busy_s = [service_s, *[0.0] * (len(result.busy_s) - 1)]
        self._later(worker.free_s, worker.number, pickle.dumps(result, 5), records)

    def _later(self, at_s: float, worker: int, payload: bytes | None, records: int) -> None:
        heapq.heappush(self._agenda, (at_s, next(self._order), worker, payload, records))

    # What is measured.

    @contextmanager
    def _outside(self) -> Iterator[None]:
        """Count the time inside as the workers', not as the driver's."""
        began = time.thread_time()
        try:
            yield
        finally:
            self._outside_s += time.thread_time() - began

    def _sample(self) -> None:
        cpu_s = time.thread_time() - self._began_s - self._outside_s
        self.samples.append(Sample(self._clock.now, cpu_s, self._events, self._records, self._busy_s))


def _audio_s(result: PartialResult) -> float:
    notes: list[Record] = [note.record for note in (*result.filtered, *result.quarantined)]
    return sum(result.kept_ms) / 1000 + sum(record.get("duration", 0.0) for record in notes)
