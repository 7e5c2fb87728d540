"""The local executor: it runs everything in this process, without starting or sending anything, and is easy to debug.

It isolates exceptions, but cannot survive a segmentation fault or end a hang; executors with processes can. Its workers
have deep copies of the stages, as every worker has.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
from loguru import logger

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
from curate.executors.leftover_threads import describe_threads, ends_at_exit
from curate.executors.time_limit import time_limit
from curate.executors.validators import positive, with_answers
from curate.io.rows import encode_row
from curate.machine import Machine
from curate.plan import Plan
from curate.resource_check import check_resources
from curate.stage import ProcessingStage


@with_answers
@attrs.frozen
class LocalExecutor:
    """Runs the pipeline in this process, one worker for each hop.

    Args:
        setup_timeout_s: the time that the `setup()` of a hop's stages may take; it is enforced where this process is in
            Python code and has no other alarm.
    """

    setup_timeout_s: float = attrs.field(default=1800.0, validator=positive)
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
        return LocalTransport(hops, self.setup_timeout_s)

    def close(self) -> None:
        pass


class LocalTransport:
    """Workers that are generators: `wait` runs the batch that is furthest in the pipeline up to its next result."""

    max_in_flight = 1
    setup_attempts = 1
    can_kill = False

    def __init__(self, hops: Sequence[HopSpec], setup_timeout_s: float = float("inf")) -> None:
        self._specs = hops
        self.setup_timeout_s = setup_timeout_s
        self._threads = set(threading.enumerate())
        self._directories: dict[int, str] = {}
        """The working directory of each worker whose stages have changed it."""
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
            with self._own_directory(worker), time_limit(self.setup_timeout_s):
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
            with self._own_directory(worker):
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
        for worker, runner in enumerate(self._runners):
            with self._own_directory(worker):
                runner.teardown()
        added = set(threading.enumerate()) - self._threads
        left = [thread for thread in added if not thread.daemon and not ends_at_exit(thread)]
        if left:
            logger.warning("{}", describe_threads(left))

    @contextmanager
    def _own_directory(self, worker: int) -> Generator[None]:
        """Keep a change of the working directory to the worker whose stages make it, as in a process of its own.

        Otherwise one `os.chdir` in a stage would give every relative path of the run another meaning.
        """
        try:
            before = os.getcwd()  # noqa: PTH109 (for every batch)
        except OSError:  # it has been removed, so that no relative path has a meaning
            yield
            return
        own = self._directories.get(worker)
        if own is not None:
            os.chdir(own)
        try:
            yield
        finally:
            try:
                after = os.getcwd()  # noqa: PTH109
            except OSError:
                after = ""
            if after != before:
                os.chdir(before)
                if own is None:
                    name = self._specs[worker].hop.name
                    logger.warning("{} has changed its working directory; that of the run stays {}", name, before)
                if after:
                    self._directories[worker] = after


def copied_runner(spec: HopSpec) -> StageGroupRunner:
    """Return a hop's runner for one worker of this process.

    Raises:
        PlanError: names the stage and the attribute that cannot be copied.
    """
    stages = [planned.stage for planned in spec.hop.stages]
    try:
        copies = [copy.deepcopy(stage) for stage in stages]
    except Exception:  # noqa: BLE001 (a third-party value may raise anything; this raises the error that names it)
        copies = [tried(stage, copy.deepcopy, "copied for a worker") for stage in stages]
    return StageGroupRunner(
        copies,
        context=spec.context,
        encode=encode_row if spec.encodes else None,
        blamed=spec.blamed,
    )


def check_copyable(plan: Plan) -> None:
    """Check that every stage which works in a worker can be copied for one.

    Raises:
        PlanError: names the stage and the attribute that cannot be copied.
    """
    for planned in plan.stages:
        if isinstance(planned.stage, ProcessingStage):
            tried(planned.stage, copy.deepcopy, "copied for a worker")


def tried(stage: ProcessingStage, action: Callable[[Any], Any], description: str) -> Any:
    """Apply an action to a stage and return its result.

    Args:
        stage: the stage, on its way to a worker.
        action: copies or pickles a value; it may raise anything that a third-party value raises.
        description: the action as a participle, for the message.

    Raises:
        PlanError: names the stage and the attribute on which the action fails.
    """
    try:
        return action(stage)
    except Exception as error:
        for name, value in vars(stage).items():
            try:
                action(value)
            except Exception as culprit:  # noqa: BLE001 (a third-party value may raise anything)
                raise PlanError(
                    f"stage {stage.name!r}: {name} cannot be {description} ({culprit}); create it in setup()",
                    stage.name,
                ) from error
        raise PlanError(f"stage {stage.name!r} cannot be {description} ({error})", stage.name) from error
