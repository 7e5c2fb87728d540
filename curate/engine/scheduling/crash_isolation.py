"""Finds the record on which workers die or hang, without convicting its neighbours.

A worker that is gone leaves suspects: the records that it had announced and not finished. Each is sent alone, one at a
time, and is guilty when it has failed alone `retries + 1` times. A SIGKILL may have come from outside, at the very
moment when the worker had a suspect, so it must happen several times in a row before it convicts.
"""

from __future__ import annotations

from curate.engine.protocol.messages import Quarantined, RecordsAnnounced, WorkerDied
from curate.engine.scheduling.worker_pool import InFlight, WorkerState
from curate.plan import Hop
from curate.records import ID, Record

_NODE_LOSSES = 3
"""How many times a batch's worker may be lost with its node before the batch's records are suspects themselves."""

_KILLS = 3
"""How many times a worker must be killed, or its node be lost, while it is alone with the same record."""


class CrashIsolation:
    """Counts the failures of suspects."""

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}
        self._node_losses: dict[int, int] = {}

    def suspects(self, worker: WorkerState, flight: InFlight, *, node_lost: bool) -> dict[str, Record]:
        """Return the records of a batch that a worker's death points to; none if it had not begun the batch."""
        if flight is not worker.current:
            return {}
        if node_lost:
            number = flight.task.number
            self._node_losses[number] = self._node_losses.get(number, 0) + 1
            if self._node_losses[number] < _NODE_LOSSES:
                return {}
        unfinished: dict[str, Record] = {record[ID]: record for record in flight.unfinished()}
        announced = _announced_ids(worker, flight)
        suspects = {name: record for name, record in unfinished.items() if announced is None or name in announced}
        return suspects or unfinished

    def judge(self, worker: WorkerState, flight: InFlight, hop: Hop, died: WorkerDied) -> Quarantined | None:
        """Record that a worker has failed on a record alone, and return the verdict; None: it is tried again."""
        (record,) = flight.task.records
        stage = hop.stages[min(_announced_stages(worker, flight), default=0)].stage if hop.stages else None
        retries = 0 if stage is None else stage.retries
        attempts = self._failures.get(record[ID], 0) + 1
        hung = worker.timed_out is not None
        by_chance = (died.killed_externally or died.node_lost) and not hung
        if attempts < max(retries + 1, _KILLS if by_chance else 1):
            self._failures[record[ID]] = attempts
            return None
        self.clear(record)
        message = (
            f"the worker made no progress for {worker.timed_out:g} s with this record alone"
            if worker.timed_out is not None
            else f"the worker died on this record alone: {died.reason}"
        )
        code, name = "timeout" if hung else "worker_died", "" if stage is None else stage.name
        return Quarantined(record[ID], record, name, code, message, "", attempts)

    def clear(self, record: Record) -> None:
        """Record that a suspect is finished."""
        self._failures.pop(record[ID], None)

    def forget_batch(self, number: int) -> None:
        """Record that a batch is finished."""
        self._node_losses.pop(number, None)


def _announcement_of(worker: WorkerState, flight: InFlight) -> RecordsAnnounced | None:
    announced = worker.announced
    return announced if announced is not None and announced.number == flight.task.number else None


def _announced_ids(worker: WorkerState, flight: InFlight) -> set[str] | None:
    """Return the ids of the batch's records that the worker announced last; None: any of them."""
    announced = _announcement_of(worker, flight)
    positions = None if announced is None else announced.positions()
    return None if positions is None else {flight.task.records[position][ID] for position in positions}


def _announced_stages(worker: WorkerState, flight: InFlight) -> list[int]:
    announced = _announcement_of(worker, flight)
    return [] if announced is None else list(announced.stages)
