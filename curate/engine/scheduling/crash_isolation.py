"""Finds the record on which workers die or hang, without convicting its neighbours.

A worker that is gone leaves suspects: the records that it had announced and not finished. Each is sent alone, one at a
time, and is guilty when it has failed alone `retries + 1` times. A SIGKILL may have come from outside, at the very
moment when the worker had a suspect, so it must happen several times in a row before it convicts.
"""

from __future__ import annotations

from curate.engine.protocol.messages import Quarantined, WorkerDied
from curate.engine.scheduling.hop_state import InFlight, WorkerState
from curate.plan import Hop
from curate.records import ID, Record

_NODE_LOSSES = 3
"""So often may a batch's worker be taken away with its node before the batch's records are suspects themselves."""


_KILLS = 3
"""So often must a worker be killed, or its node be gone, with the same record alone."""


class CrashIsolation:
    """What is known against the records in flight."""

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}
        self._node_losses: dict[int, int] = {}

    def suspects(self, worker: WorkerState, flight: InFlight, *, node_lost: bool) -> dict[str, Record]:
        """Return the records of a batch that the end of a worker points to; none if the worker had not come to it."""
        if flight is not worker.current:
            return {}
        if node_lost:
            number = flight.work.number
            self._node_losses[number] = self._node_losses.get(number, 0) + 1
            if self._node_losses[number] < _NODE_LOSSES:
                return {}
        unfinished: dict[str, Record] = {record[ID]: record for record in flight.unfinished()}
        announced = _touched(worker, flight)
        announced = {name: record for name, record in unfinished.items() if announced is None or name in announced}
        return announced or unfinished

    def judge(self, worker: WorkerState, flight: InFlight, hop: Hop, died: WorkerDied) -> Quarantined | None:
        """Take in that a worker has failed on a record alone; return the verdict, or None: it is tried again."""
        (record,) = flight.work.records
        stage = hop.stages[min(_stages_touched(worker, flight), default=0)].stage if hop.stages else None
        retries = 0 if stage is None else stage.retries
        attempts = self._failures.get(record[ID], 0) + 1
        hung = worker.timed_out is not None
        chance = (died.killed_externally or died.node_lost) and not hung
        if attempts < max(retries + 1, _KILLS if chance else 1):
            self._failures[record[ID]] = attempts
            return None
        self.clear(record)
        told = (
            f"the worker got no further for {worker.timed_out:g} s with this record alone"
            if worker.timed_out is not None
            else f"the worker died on this record alone: {died.reason}"
        )
        code, name = "timeout" if hung else "worker_died", "" if stage is None else stage.name
        return Quarantined(record[ID], record, name, code, told, "", attempts)

    def clear(self, record: Record) -> None:
        """Take in that a record is finished."""
        self._failures.pop(record[ID], None)

    def forget(self, number: int) -> None:
        """Take in that a batch is finished."""
        self._node_losses.pop(number, None)


def _touched(worker: WorkerState, flight: InFlight) -> set[str] | None:
    """Return the ids of the batch's records that the worker was last heard to touch; None: any of them."""
    started = worker.announced
    positions = started.positions() if started is not None and started.number == flight.work.number else None
    return None if positions is None else {flight.work.records[position][ID] for position in positions}


def _stages_touched(worker: WorkerState, flight: InFlight) -> list[int]:
    started = worker.announced
    return [] if started is None or started.number != flight.work.number else list(started.announced)
