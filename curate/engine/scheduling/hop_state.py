"""One hop as the scheduler sees it: its queue, its workers, and the size of its batches."""

from __future__ import annotations

from curate.engine.protocol.messages import PartialResult
from curate.engine.scheduling.batch_sizer import BatchSizer
from curate.engine.scheduling.hop_queue import HopQueue
from curate.engine.scheduling.worker_pool import InFlight, WorkerPool, WorkerState
from curate.plan import Hop, PlannedStage
from curate.stage import ProcessingStage, called_method


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
        self.sizer = BatchSizer(max_in_flight, merges=merges and all(map(_takes_records, hop.stages)))
        self.worked_s = 0.0
        """Time that the stages have worked, in seconds over all workers."""
        self._busy_s: list[float] = []

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not (self.queue or self.queue.has_suspects) and self.workers.is_idle

    @property
    def is_full(self) -> bool:
        """Whether the hop before must wait."""
        return self.queue.is_full(len(self.workers))

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
