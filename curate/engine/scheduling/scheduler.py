"""The one scheduler: pulls batches from the feed, keeps workers busy, and yields roots as they are settled.

It knows nothing of pipes or of Ray; a `Transport` starts workers and carries messages. What it holds is bounded: the
feed is read only for workers that have room, and a hop takes no more in while the queue behind it is full.

A worker that dies or stops getting on is replaced. What it had is sent on to others, except for the records that it
was touching: these go alone, until one is guilty (`suspicion`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from loguru import logger

from curate.engine.accounting.counts import FinishedInputs
from curate.engine.protocol.messages import (
    BatchDone,
    BatchTask,
    BatchUnreadable,
    Event,
    Outcome,
    PartialResult,
    Quarantined,
    RecordsAnnounced,
    ResultReceived,
    WorkerDied,
    WorkerFailed,
    WorkerReady,
)
from curate.engine.protocol.transport import Transport, Unsendable
from curate.engine.scheduling.autoscaler import Autoscaler
from curate.engine.scheduling.crash_isolation import CrashIsolation
from curate.engine.scheduling.deadlines import Deadlines
from curate.engine.scheduling.hop_state import HopState, InFlight, WorkerState
from curate.engine.scheduling.tracker import InFlightTracker
from curate.errors import AccountingError, InfrastructureError
from curate.io.rows import printable
from curate.monitoring import add_to
from curate.plan import Hop
from curate.records import ID, AudioBatch, Record

MOST_ALONE = 32
"""So many suspects go alone, one after the other; more of them are first narrowed down in groups."""

_GROUPS = 8


@dataclass(slots=True)
class InputBatch:
    """A batch of the phase's input; `seqs` are its records' positions there."""

    batch: AudioBatch
    seqs: Sequence[int]


Feed: TypeAlias = "Iterator[InputBatch | FinishedInputs]"
"""Batches to work on, and roots that are settled before any work, such as a broken manifest line."""


class Scheduler:
    """Runs one phase.

    Args:
        transport: where the workers live.
        hops: what they do; at least one.
        reads_ahead: whether the feed may be asked for a batch that no worker has room for yet, to share out its last
            batches well; not where the feed waits for what comes out.
        stopping: whether the run is to stop: what no worker has begun is then left for another life of it.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        transport: Transport,
        hops: Sequence[Hop],
        *,
        reads_ahead: bool = True,
        stopping: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._tracker = InFlightTracker(last_hop=len(hops) - 1)
        self._lines = [
            HopState(hop, number, transport.max_in_flight, merges=reads_ahead and transport.max_in_flight > 1)
            for number, hop in enumerate(hops)
        ]
        self._line_of: dict[int, HopState] = {}
        self._autoscaler = Autoscaler(transport, self._lines, clock)
        self._deadlines = Deadlines(transport, self._lines, clock)
        self._isolation = CrashIsolation()
        self._reads_ahead = reads_ahead
        self._stopping = stopping
        self._exhausted = False
        self._next_number = 0
        self._measures: dict[str, Any] = {}

    def run(self, feed: Feed) -> Iterator[FinishedInputs]:
        """Yield the feed's roots as they are settled, in any order; ends when every one of them is.

        Raises:
            InfrastructureError: a worker could not be set up, or met trouble that is not a record's.
        """
        while True:
            while self._wants_more():
                incoming = next(feed, None)
                if incoming is None:
                    self._exhausted = True
                elif isinstance(incoming, FinishedInputs):
                    yield incoming
                else:
                    self._admit(incoming)
            if self._stopping():
                self._exhausted = True
                self._lines[0].waiting.clear()
            self._staff()
            yield from self._dispatch()
            if all(line.idle for line in self._lines):
                if not self._exhausted:  # what there was cannot be sent, so there is nothing to wait for
                    continue
                if not self._tracker.empty and not self._stopping():
                    raise AccountingError(f"the workers are idle, but not settled: {self._tracker.described()}")
                return
            yield from self._hear(self._patience())
            self._deadlines.enforce()

    def drain(self, grace_s: float) -> Iterator[FinishedInputs]:
        """Yield what workers still finish of what they have, for so many seconds at the most; nothing new is begun."""
        end = self._clock() + grace_s
        while any(worker.in_flight for line in self._lines for worker in line.workers.values()):
            left = end - self._clock()
            if left <= 0:
                return
            yield from self._hear(left)

    @property
    def workers(self) -> tuple[int, ...]:
        """How many workers each hop has."""
        return tuple(len(line.workers) for line in self._lines)

    def take_busy_s(self) -> dict[str, float]:
        """Return how long each stage has worked since the last call, in seconds over all workers."""
        taken: dict[str, float] = {}
        for line in self._lines:
            taken |= {planned.name: spent for planned, spent in zip(line.hop.stages, line.busy_s, strict=False)}
            line.busy_s = []
        return taken

    def take_measures(self) -> dict[str, Any]:
        """Return what each stage has measured since the last call, added up over all workers."""
        taken, self._measures = self._measures, {}
        return taken

    def _wants_more(self) -> bool:
        """Return whether the feed should be asked for another batch."""
        if self._exhausted or self._is_blocked(0):
            return False
        first = self._lines[0]
        places = self._autoscaler.pending(0) + sum(
            max(0, first.depth - len(worker.in_flight)) for worker in first.workers.values()
        )
        ahead = 1 if self._reads_ahead and self._autoscaler.target(0) > 1 else 0
        return len(first.waiting) < (places + ahead) * first.merged

    def _admit(self, incoming: InputBatch) -> None:
        batch = incoming.batch
        work = BatchTask(self._numbered(), batch.data, batch.filepath_key, batch.task_id, batch.dataset_name)
        self._tracker.add_batch(work.number, batch.data, incoming.seqs)
        self._lines[0].put(work)

    def _staff(self) -> None:
        """Start the workers that are wanted; none as long as there is nothing to do."""
        if any(not line.idle for line in self._lines):
            most = sum(self._lines[0].records_waiting()) if self._exhausted else None
            for line, worker in self._autoscaler.start_due(most):
                self._line_of[worker] = line

    def _numbered(self) -> int:
        self._next_number += 1
        return self._next_number

    def _is_blocked(self, hop: int) -> bool:
        return hop + 1 < len(self._lines) and self._lines[hop + 1].full

    def _dispatch(self) -> Iterator[FinishedInputs]:
        """Give queued batches to workers that have room, later hops first, so that what is begun is finished."""
        for line in reversed(self._lines):
            if not (line.waiting or line.suspects):
                continue
            if line.suspects and not line.tries_suspect():
                idle = next((worker for worker in line.idle_workers() if worker.ready), None)
                if idle is not None:
                    yield from self._send(line, idle, line.suspects.popleft(), isolated=True)
            while line.waiting and not self._is_blocked(line.number):
                worker = line.free_worker()
                if worker is None:
                    break
                work, batches = self._portion(line)
                yield from self._send(line, worker, work, batches=batches)

    def _portion(self, line: HopState) -> tuple[BatchTask, int]:
        """Take the next batch from a queue, or several short ones together, and say how many they are."""
        if line.merged == 1 or len(line.waiting) == 1:
            return self._piece(line), 1
        works = line.take_together()
        if len(works) == 1:
            return works[0], 1
        merged = works[0].piece(self._numbered(), [record for work in works for record in work.records])
        self._tracker.merge([work.number for work in works], merged.number, merged.records)
        return merged, len(works)

    def _piece(self, line: HopState) -> BatchTask:
        """Take the next batch from a queue, or a piece of it where workers would be idle otherwise."""
        work = line.take()
        if len(work.records) == 1:
            return work
        last = self._exhausted and all(before.idle for before in self._lines[: line.number])
        line.waiting[work.number] = work
        split_count = line.split_count(work, last=last, idle=len(line.idle_workers()) - len(line.waiting) + 1)
        del line.waiting[work.number]
        if split_count == 1:
            return work
        self._tracker.track_individually(work.number)
        first = work.piece(self._numbered(), work.records[::split_count])
        rest = [record for position, record in enumerate(work.records) if position % split_count]
        line.requeue([work.piece(self._numbered(), rest)])
        return first

    def _send(
        self, line: HopState, worker: WorkerState, work: BatchTask, *, isolated: bool = False, batches: int = 1
    ) -> Iterator[FinishedInputs]:
        try:
            size = self._transport.send(worker.number, work)
        except Unsendable as error:
            yield from self._narrow(line, work, f"the record cannot be sent to a worker: {error}")
            return
        if not worker.in_flight:
            worker.last_progress_s = self._clock()
        worker.in_flight[work.number] = InFlight(work, size, isolated, batches)
        worker.size += size

    def _patience(self) -> float | None:
        """Return for how long nothing needs to be done if nothing happens, in seconds; None: for ever."""
        times = [time for time in (self._autoscaler.next_s(), self._deadlines.next_s()) if time is not None]
        return min(times, default=None)

    def _hear(self, timeout_s: float | None) -> Iterator[FinishedInputs]:
        for event in self._transport.wait(timeout_s):
            yield from self._handle(event)

    def _handle(self, event: Event) -> Iterator[FinishedInputs]:
        line = self._line_of[event.worker]
        worker = line.workers.get(event.worker)
        if worker is None:  # it has been given up
            return
        if not isinstance(event, WorkerDied | WorkerFailed):
            line.note_progress(worker, self._clock(), looked=isinstance(event, RecordsAnnounced))
        match event:
            case ResultReceived(_, part, size):
                flight = worker.in_flight[part.number]
                flight.parts.append(part)
                line.note_part(worker, part)
                if part.measures:
                    add_to(self._measures, part.measures)
                yield from self._settle(line, flight.work, part, size)
            case BatchDone(_, number):
                flight = worker.in_flight.pop(number)
                worker.size -= flight.size
                line.note_done(worker, flight)
                self._isolation.forget(number)
                if flight.isolated:
                    self._isolation.clear(flight.work.records[0])
            case RecordsAnnounced():
                worker.announced = event
            case WorkerReady():
                worker.ready = True
                self._autoscaler.note_ready(line)
            case BatchUnreadable(_, number, reason):
                flight = worker.in_flight.pop(number)
                worker.size -= flight.size
                yield from self._narrow(line, flight.work, f"the worker could not read the record: {reason}")
            case WorkerFailed(_, error):
                if worker.ready:
                    raise error
                del line.workers[worker.number]
                self._autoscaler.note_failed(line, worker, error)
            case WorkerDied() as died:
                if not worker.ready:
                    del line.workers[worker.number]
                    self._autoscaler.note_failed(line, worker, _died_in_setup(line, worker, died.reason))
                    return
                logger.warning("a worker of {} is gone: {}", line.hop.name, _first_line(died.reason))
                yield from self._judge(line, worker, died)
                self._give_up(line, worker, node_lost=died.node_lost)
                self._autoscaler.replace(line, worker)

    def _settle(self, line: HopState, work: BatchTask, part: Outcome, size: int = 0) -> Iterator[FinishedInputs]:
        onward = self._numbered()
        settled, forward = self._tracker.settle(line.number, part, work.records, onward)
        if forward:
            self._lines[line.number + 1].put(work.piece(onward, forward), origin=work.number, size=size)
        if settled is not None:
            yield settled

    def _judge(self, line: HopState, worker: WorkerState, died: WorkerDied) -> Iterator[FinishedInputs]:
        """Decide about the record that a worker had alone when it went."""
        for flight in list(worker.in_flight.values()):
            if flight.isolated and flight.unfinished():
                del worker.in_flight[flight.work.number]
                verdict = self._isolation.judge(worker, flight, line.hop, died)
                if verdict is None:
                    line.suspects.appendleft(flight.work)
                else:
                    yield from self._settle(line, flight.work, _quarantined(flight.work, verdict))

    def _give_up(self, line: HopState, worker: WorkerState, *, node_lost: bool) -> None:
        """Queue again what a worker that is gone has not finished: what it touched alone, the rest as it was.

        Where very many are suspects, as when a stage announces nothing, a few smaller batches narrow them down first.
        """
        again: list[BatchTask] = []
        for flight in worker.in_flight.values():
            unfinished = flight.unfinished()
            if not unfinished:
                continue
            suspects = self._isolation.suspects(worker, flight, node_lost=node_lost)
            if not suspects and len(unfinished) == len(flight.work.records):
                again.append(flight.work)
                continue
            self._tracker.track_individually(flight.work.number)
            rest = [record for record in unfinished if record[ID] not in suspects]
            groups = [rest] if rest else []
            if len(suspects) <= MOST_ALONE:
                line.suspects.extend(flight.work.piece(self._numbered(), [record]) for record in suspects.values())
            else:
                crowd = list(suspects.values())
                groups += [crowd[start::_GROUPS] for start in range(_GROUPS)]
            again.extend(flight.work.piece(self._numbered(), group) for group in groups)
        line.requeue(again, apart=True)
        del line.workers[worker.number]

    def _narrow(self, line: HopState, work: BatchTask, reason: str) -> Iterator[FinishedInputs]:
        """Send a batch that cannot travel in halves, until the record that is to blame is alone."""
        if len(work.records) == 1:
            (record,) = work.records
            stage = line.hop.stages[0].name if line.hop.stages else ""
            note = Quarantined(record[ID], printable(record), stage, "bad_value", reason, "", 1)
            yield from self._settle(line, work, _quarantined(work, note))
            return
        self._tracker.track_individually(work.number)
        half = len(work.records) // 2
        halves: Sequence[list[Record]] = (work.records[:half], work.records[half:])
        line.requeue([work.piece(self._numbered(), records) for records in halves], apart=True)


def _quarantined(work: BatchTask, note: Quarantined) -> PartialResult:
    return PartialResult(work.number, [], [], [], quarantined=[note])


def _died_in_setup(line: HopState, worker: WorkerState, reason: str) -> InfrastructureError:
    if worker.timed_out is not None:
        return InfrastructureError(f"a worker of {line.hop.name} was not set up after {worker.timed_out:g} s: {reason}")
    return InfrastructureError(f"a worker of {line.hop.name} died while it was set up: {reason}")


def _first_line(reason: str) -> str:
    return reason.partition("\n")[0]
