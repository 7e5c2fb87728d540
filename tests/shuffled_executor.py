"""An executor for tests: several workers for each hop, which answer in an order drawn by lot, over pickled messages.

What holds here holds wherever workers run at their own speed, and nothing is started for it.
"""

from __future__ import annotations

import pickle
import random
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import cloudpickle

from curate.engine.protocol.activity import SharedActivity
from curate.engine.protocol.messages import BatchDone, BatchTask, Event, ResultReceived, WorkerReady
from curate.engine.protocol.transport import HopSpec
from curate.engine.worker.stage_group import StageGroupRunner
from curate.io.rows import encode_row
from curate.plan import Plan
from curate.stage import ProcessingStage


class ShuffledExecutor:
    """Workers that take turns by lot."""

    name = "shuffled"

    def __init__(self, seed: int = 0, workers: int = 3) -> None:
        self._seed = seed
        self._workers = workers

    def check(self, plan: Plan) -> None:
        pass

    def open(self, hops: Sequence[HopSpec]) -> ShuffledTransport:
        return ShuffledTransport(hops, self._seed, self._workers)

    def close(self) -> None:
        pass


class ShuffledTransport:
    max_in_flight = 2
    setup_attempts = 1
    setup_timeout_s = float("inf")
    can_kill = False

    def __init__(self, hops: Sequence[HopSpec], seed: int, workers: int) -> None:
        self._specs = hops
        self._left = [workers for _ in hops]
        self._random = random.Random(seed)
        self._runners: list[StageGroupRunner] = []
        self._inbox: list[deque[bytes]] = []
        self._outbox: list[deque[bytes]] = []
        self._running: dict[int, tuple[int, Iterator[Any]]] = {}

    def room(self, hop: int) -> int:
        return self._left[hop]

    def start(self, hop: int, slot: int) -> int:
        self._left[hop] -= 1
        spec, worker = self._specs[hop], len(self._runners)
        outbox: deque[bytes] = deque()
        stages = [pickle.loads(cloudpickle.dumps(planned.stage)) for planned in spec.hop.stages]
        runner = StageGroupRunner(
            [stage for stage in stages if isinstance(stage, ProcessingStage)],
            context=spec.context,
            encode=encode_row if spec.encodes else None,
            blamed=spec.blamed,
            reporter=SharedActivity(memoryview(bytearray(8 * SharedActivity.words_for(len(stages)))).cast("Q")),
        )
        runner.setup()
        self._runners.append(runner)
        self._inbox.append(deque())
        self._outbox.append(outbox)
        outbox.append(pickle.dumps(WorkerReady(worker)))
        return worker

    def send(self, worker: int, work: BatchTask) -> int:
        self._inbox[worker].append(pickle.dumps(work))
        return len(self._inbox[worker][-1])

    def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
        while True:
            talking = [worker for worker, outbox in enumerate(self._outbox) if outbox]
            working = [n for n in range(len(self._runners)) if n in self._running or self._inbox[n]]
            worker = self._random.choice(talking + working)
            if self._outbox[worker]:
                return [pickle.loads(self._outbox[worker].popleft())]
            self._work(worker)

    def _work(self, worker: int) -> None:
        if worker not in self._running:
            work = pickle.loads(self._inbox[worker].popleft())
            self._running[worker] = work.number, self._runners[worker].run(work)
        number, parts = self._running[worker]
        part = next(parts, None)
        if part is None:
            del self._running[worker]
        event = BatchDone(worker, number) if part is None else ResultReceived(worker, part)
        self._outbox[worker].append(pickle.dumps(event))

    def kill(self, worker: int) -> None:
        raise AssertionError("nobody is killed here")

    def close(self) -> None:
        self._running.clear()
        for runner in self._runners:
            runner.teardown()
