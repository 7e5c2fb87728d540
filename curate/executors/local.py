"""The local executor: it runs everything in this process, without starting or sending anything, and is easy to debug.

It isolates exceptions, but cannot survive a segmentation fault or end a hang; executors with processes can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from curate.engine.protocol.messages import (
    BatchDone,
    BatchTask,
    Event,
    PartialResult,
    ResultReceived,
    WorkerFailed,
    WorkerReady,
)
from curate.engine.protocol.transport import HopSpec
from curate.engine.worker.stage_group import StageGroupRunner
from curate.errors import InfrastructureError, PlanError
from curate.executors.copies import check_copyable, copied_runner
from curate.machine import Machine
from curate.plan import Plan
from curate.resource_check import check_resources


@attrs.frozen
class LocalExecutor:
    """Runs the pipeline in this process, one worker for each hop."""

    name: str = attrs.field(default="local", init=False)

    def check(self, plan: Plan) -> None:
        check_resources(plan, Machine.here(), executor=self.name)
        for planned in plan.stages:
            if planned.stage.timeout_s is not None:
                raise PlanError(
                    f"stage {planned.name!r} has timeout_s={planned.stage.timeout_s:g}, but the local executor cannot "
                    "end a hang in its own process; leave it out, or use an executor with processes of its own",
                    planned.name,
                )
        check_copyable(plan)

    def open(self, hops: Sequence[HopSpec]) -> LocalTransport:
        return LocalTransport(hops)

    def close(self) -> None:
        pass


class LocalTransport:
    """Workers that are generators: `wait` runs the batch that is furthest in the pipeline up to its next result."""

    max_in_flight = 1
    setup_attempts = 1
    setup_timeout_s = float("inf")
    can_kill = False

    def __init__(self, hops: Sequence[HopSpec]) -> None:
        self._specs = hops
        self._runners: list[StageGroupRunner] = []
        self._started: list[Event] = []
        self._running: dict[int, tuple[int, Iterator[PartialResult]]] = {}

    def room(self, hop: int) -> int:
        return 0 if hop < len(self._runners) else 1  # further workers would share this one thread

    def start(self, hop: int, slot: int) -> int:
        worker = len(self._runners)
        runner = copied_runner(self._specs[hop])
        self._runners.append(runner)
        try:
            runner.setup()
        except InfrastructureError as error:
            self._started.append(WorkerFailed(worker, error))
        else:
            self._started.append(WorkerReady(worker))
        return worker

    def send(self, worker: int, work: BatchTask) -> int:
        self._running[worker] = work.number, self._runners[worker].run(work)
        return 0

    def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
        if self._started:
            started, self._started = self._started, []
            return started
        worker = max(self._running)  # the last hop with a batch: started records are finished first
        number, results = self._running[worker]
        try:
            result = next(results, None)
        except InfrastructureError as error:
            return [WorkerFailed(worker, error)]
        if result is not None:
            return [ResultReceived(worker, result)]
        del self._running[worker]
        return [BatchDone(worker, number)]

    def kill(self, worker: int) -> None:
        raise InfrastructureError("the local executor runs in this process and cannot kill a worker")

    def close(self) -> None:
        self._running.clear()  # closes the generators
        for runner in self._runners:
            runner.teardown()
