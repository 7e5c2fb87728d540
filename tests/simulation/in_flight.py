"""What a record in flight takes of the driver's memory: `python -m tests.simulation.in_flight [RECORDS]`.

Workers get their batches and acknowledge one record of each, from when on the records of a batch are tracked one by
one, and nothing more. Prints the bytes that Python has allocated in the driver by then, for each record.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections import deque
from collections.abc import Sequence

from curate import AudioBatch
from curate.engine.protocol.messages import BatchTask, Event, PartialResult, ResultReceived, WorkerReady
from curate.engine.scheduling.scheduler import InputBatch, Scheduler
from curate.executors.worker_process import pickled
from curate.plan import Hop, PlannedStage
from curate.resources import Resources
from tests.bench.run_costs import SyntheticRecords
from tests.simulation.simulated_cluster import SimulatedRecogniser

WINDOW = 1024


class Enough(Exception):
    """Everything has been sent."""


class SilentTransport:
    """Workers that finish one record of their batch."""

    max_in_flight = 1
    setup_attempts = 1
    setup_timeout_s = 60.0
    can_kill = False

    def __init__(self, workers: int) -> None:
        self._left = workers
        self._events: deque[Event] = deque()

    def room(self, hop: int) -> int:
        return self._left

    def start(self, hop: int, slot: int) -> int:
        self._left -= 1
        self._events.append(WorkerReady(slot))
        return slot

    def send(self, worker: int, work: BatchTask) -> int:
        first = work.records[0]
        self._events.append(ResultReceived(worker, PartialResult(work.number, [b""], [first["_id"]], [0])))
        return len(pickled(work))

    def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
        if not self._events:
            raise Enough
        return [self._events.popleft()]

    def kill(self, worker: int) -> None:
        raise AssertionError("no worker has a deadline")

    def close(self) -> None:
        pass


def bytes_in_flight(records: int) -> float:
    """Return the driver's bytes for each record in flight."""
    workers = records // WINDOW
    stage = PlannedStage("recogniser", "processing", SimulatedRecogniser(), None)
    tracemalloc.start()
    scheduler = Scheduler(SilentTransport(workers), [Hop((stage,), Resources(), workers)], reads_ahead=False)
    rows = SyntheticRecords(workers * WINDOW).read()
    starts = range(0, workers * WINDOW, WINDOW)
    batches = (
        InputBatch(AudioBatch([next(rows) for _ in range(WINDOW)]), range(start, start + WINDOW)) for start in starts
    )
    try:
        for _ in scheduler.run(batches):
            pass
    except Enough:
        held, _ = tracemalloc.get_traced_memory()
        return held / workers / WINDOW
    finally:
        tracemalloc.stop()
    raise AssertionError("the workers have finished what they were sent")


if __name__ == "__main__":
    print(f"{bytes_in_flight(int(sys.argv[1]) if len(sys.argv) > 1 else 65_536):.0f} bytes a record in flight")
