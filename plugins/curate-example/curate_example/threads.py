"""The threads executor: the smallest executor with several workers, an example to be read and copied.

Threads pay where stages wait for a disk or a server, or compute outside of the interpreter's lock. They start
immediately and share memory with the driver, but a crash ends all of them, and none can be ended from outside.
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
    check_resources,
    copied_runner,
)


@dataclass(frozen=True)
class ThreadsExecutor:
    """Runs the pipeline in threads of this process.

    Args:
        workers: the maximum number of threads of a hop whose stages do not set `workers`.
    """

    workers: int = 4
    name: str = field(default="threads", init=False)

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers={self.workers!r}: must be at least 1")

    def check(self, plan: Plan) -> None:
        """Refuse plans that threads cannot run, before work starts."""
        check_resources(plan, Machine.here(), executor=self.name)
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
        """Return the transport of one phase; no thread is started yet."""
        return ThreadsTransport(hops, self.workers)

    def close(self) -> None:
        """Do nothing: no state is kept between phases."""


class ThreadsTransport:
    """The threads of one phase, and the queue on which the driver receives their events."""

    max_in_flight = 4
    setup_attempts = 1  # a setup that fails in this process would fail again
    setup_timeout_s = float("inf")
    can_kill = False

    def __init__(self, hops: Sequence[HopSpec], workers: int) -> None:
        self._hops = hops
        self._workers = workers
        self._threads: list[_Thread] = []
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._closing = threading.Event()

    def room(self, hop: int) -> int:
        """Return how many more threads of a hop may be started."""
        started = sum(thread.hop == hop for thread in self._threads)
        return (self._hops[hop].hop.workers or self._workers) - started

    def start(self, hop: int, slot: int) -> int:
        """Start a thread; its slot matters only to executors that assign GPUs."""
        number = len(self._threads)
        self._threads.append(_Thread(number, hop, copied_runner(self._hops[hop]), self._events, self._closing))
        self._threads[number].start()
        return number

    def send(self, worker: int, work: BatchTask) -> int:
        """Queue a batch for a thread. The records are handed over, not copied, so they take no bytes."""
        self._threads[worker].inbox.put(work)
        return 0

    def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
        """Block until there is an event, and return all events received by then."""
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
        self._report = events.put
        self._closing = closing

    def run(self) -> None:
        """Process batches until there are no more, or until an error occurs that no record caused."""
        try:
            self._runner.setup()
            self._report(WorkerReady(self._number))
            while (work := self.inbox.get()) is not None and not self._closing.is_set():
                self._work_on(work)
        except CurateError as error:
            self._report(WorkerFailed(self._number, error))
        except BaseException as error:  # noqa: BLE001 (without this event the driver would wait for ever)
            failed = InfrastructureError(f"thread {self.name} has failed: {type(error).__name__}: {error}")
            failed.__cause__ = error
            self._report(WorkerFailed(self._number, failed))
        finally:
            self._runner.teardown()

    def _work_on(self, work: BatchTask) -> None:
        for part in self._runner.run(work):
            self._report(ResultReceived(self._number, part))
            if self._closing.is_set():
                return
        self._report(BatchDone(self._number, work.number))
