"""An executor for tests: several workers for each hop, which answer in an order drawn by lot, over pickled messages.

What holds here holds wherever workers run at their own speed, and nothing is started for it.
"""

from __future__ import annotations

import pickle
import random
from collections import deque
from collections.abc import Iterator, Sequence

import cloudpickle

from curate.engine.hop import HopRunner
from curate.engine.messages import Acknowledged, Done, Event, Part, Ready, Started, Work
from curate.engine.transport import HopSpec
from curate.io.rows import encode_row
from curate.plan import Hop, Plan
from curate.stage import ProcessingStage


class ShuffledExecutor:
    """Workers that take turns by lot."""

    name = "shuffled"

    def __init__(self, seed: int = 0, workers: int = 3) -> None:
        self._seed = seed
        self._workers = workers

    def check(self, plan: Plan) -> None:
        pass

    def workers(self, hop: Hop) -> int:
        return self._workers

    def open(self, hops: Sequence[HopSpec]) -> ShuffledTransport:
        return ShuffledTransport(hops, self._seed)


class ShuffledTransport:
    in_flight = 2

    def __init__(self, hops: Sequence[HopSpec], seed: int) -> None:
        self._specs = hops
        self._random = random.Random(seed)
        self._runners: list[HopRunner] = []
        self._inbox: list[deque[bytes]] = []
        self._outbox: list[deque[bytes]] = []
        self._running: dict[int, tuple[int, Iterator[Part]]] = {}

    def start(self, hop: int, slot: int) -> int:
        spec, worker = self._specs[hop], len(self._runners)
        outbox: deque[bytes] = deque()
        stages = [pickle.loads(cloudpickle.dumps(planned.stage)) for planned in spec.hop.stages]
        runner = HopRunner(
            [stage for stage in stages if isinstance(stage, ProcessingStage)],
            context=spec.context,
            encode=encode_row if spec.encodes else None,
            blamed=spec.blamed,
            on_started=lambda ids: outbox.append(pickle.dumps(Started(worker, ids))),
        )
        runner.setup()
        self._runners.append(runner)
        self._inbox.append(deque())
        self._outbox.append(outbox)
        outbox.append(pickle.dumps(Ready(worker)))
        return worker

    def send(self, worker: int, work: Work) -> None:
        self._inbox[worker].append(pickle.dumps(work))

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
        event = Done(worker, number) if part is None else Acknowledged(worker, part)
        self._outbox[worker].append(pickle.dumps(event))

    def kill(self, worker: int) -> None:
        raise AssertionError("nobody is killed here")

    def close(self) -> None:
        self._running.clear()
        for runner in self._runners:
            runner.teardown()
