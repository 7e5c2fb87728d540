"""Runs the pipeline in threads of this process: the smallest executor with several workers, to be read and copied.

Threads pay where stages wait, for a disk or a server, or compute outside of the interpreter's lock. They start at once
and nothing is sent, but a crash takes all of them along, and none can be ended from outside.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from curate import ProcessingStage
from curate.errors import CurateError, InfrastructureError, PlanError
from curate.executors import (
    BatchDone,
    BatchTask,
    Event,
    HopSpec,
    Machine,
    Plan,
    ResultReceived,
    StageGroupRunner,
    WorkerFailed,
    WorkerReady,
    check_copyable,
    copied_runner,
)


@dataclass(frozen=True)
class ThreadsExecutor:
    """Runs the pipeline in threads of this process.

    Args:
        workers: how many threads a hop has at the most where its stages do not say `workers`.
    """

    workers: int = 4
    name: str = field(default="threads", init=False)

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers={self.workers!r}: must be at least 1")

    def check(self, plan: Plan) -> None:
        """Refuse what threads cannot do, before work starts."""
        Machine.here().check(plan, executor=self.name)
        for planned in plan.stages:
            stage = planned.stage
            if stage.timeout_s is not None:
                raise PlanError(
                    f"stage {planned.name!r} has timeout_s={stage.timeout_s:g}, but the threads executor cannot end a "
                    "hang in its own process; leave it out, or use an executor with processes of its own",
                    planned.name,
                )
            if isinstance(stage, ProcessingStage) and not stage.thread_safe:
                raise PlanError(
                    f"stage {planned.name!r} declares thread_safe = False, so the threads executor cannot run it; use "
                    "an executor with processes of its own, such as multiprocessing",
                    planned.name,
                )
        check_copyable(plan)

    def open(self, hops: Sequence[HopSpec]) -> ThreadsTransport:
        """Return the threads of one phase; none is started yet."""
        return ThreadsTransport(hops, self.workers)

    def close(self) -> None:
        """Nothing is kept from phase to phase."""


class ThreadsTransport:
    """The threads of one phase, and the one queue on which all of them are heard."""

    max_in_flight = 4
    setup_attempts = 1  # what fails in this process once fails again
    setup_timeout_s = float("inf")
    can_kill = False

    def __init__(self, hops: Sequence[HopSpec], workers: int) -> None:
        self._hops = hops
        self._workers = workers
        self._threads: list[_Thread] = []
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._closing = threading.Event()

    def room(self, hop: int) -> int:
        """Return how many threads of a hop may still be started."""
        there = sum(thread.hop == hop for thread in self._threads)
        return (self._hops[hop].hop.workers or self._workers) - there

    def start(self, hop: int, slot: int) -> int:
        """Start a thread; its slot matters only to those who share out cards."""
        number = len(self._threads)
        self._threads.append(_Thread(number, hop, copied_runner(self._hops[hop]), self._events, self._closing))
        self._threads[number].start()
        return number

    def send(self, worker: int, work: BatchTask) -> int:
        """Queue a batch for a thread. The records are handed over, not copied, so they take no bytes."""
        self._threads[worker].inbox.put(work)
        return 0

    def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
        """Block until a thread says something, and return all that has been said by then."""
        try:
            events = [self._events.get(timeout=timeout_s)]
        except queue.Empty:
            return []
        while not self._events.empty():
            events.append(self._events.get())
        return events

    def kill(self, worker: int) -> None:
        """Refuse: there is no way to end a thread."""
        raise InfrastructureError("the threads executor runs in this process and cannot kill a worker")

    def close(self) -> None:
        """Let every thread leave its batch at the next part, tear down its stages and end."""
        self._closing.set()
        for thread in self._threads:
            thread.inbox.put(None)
        for thread in self._threads:
            thread.join()


class _Thread(threading.Thread):
    """One worker. Its stages are set up, used and torn down in the thread, because some libraries insist on that."""

    def __init__(
        self,
        number: int,
        hop: int,
        runner: StageGroupRunner,
        events: queue.SimpleQueue[Event],
        closing: threading.Event,
    ) -> None:
        super().__init__(name=f"curate-{hop}-{number}", daemon=True)  # a second Ctrl-C does not wait for it
        self.hop = hop
        self.inbox: queue.SimpleQueue[BatchTask | None] = queue.SimpleQueue()
        self._number = number
        self._runner = runner
        self._say = events.put
        self._closing = closing

    def run(self) -> None:
        """Work until there is no more, or until something happens that is no record's fault."""
        try:
            self._runner.setup()
            self._say(WorkerReady(self._number))
            while (work := self.inbox.get()) is not None and not self._closing.is_set():
                self._work_on(work)
        except CurateError as error:
            self._say(WorkerFailed(self._number, error))
        except BaseException as error:  # noqa: BLE001 (unless the driver hears of it, it waits for ever)
            failed = InfrastructureError(f"thread {self.name} has failed: {type(error).__name__}: {error}")
            failed.__cause__ = error
            self._say(WorkerFailed(self._number, failed))
        finally:
            self._runner.teardown()

    def _work_on(self, work: BatchTask) -> None:
        for part in self._runner.run(work):
            self._say(ResultReceived(self._number, part))
            if self._closing.is_set():
                return
        self._say(BatchDone(self._number, work.number))
