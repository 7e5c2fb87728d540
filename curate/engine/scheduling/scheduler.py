"""The one scheduler: takes batches from a phase's input, keeps workers busy, and yields inputs as they are finished.

It does not know pipes or Ray; a `Transport` starts workers and carries messages. What it holds is bounded: the input is
read only for workers that have room, and a hop accepts no more batches while the queue of the next hop is full.

A worker that dies or stops making progress is replaced. Its batches are sent to other workers, except for the records
that it had announced: these go alone, until one of them is found guilty (`crash_isolation`).
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from loguru import logger

from curate.engine.accounting.counts import FinishedInputs
from curate.engine.protocol.messages import (
    BatchDone,
    BatchTask,
    BatchUnreadable,
    Event,
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
from curate.engine.scheduling.hop_state import HopState
from curate.engine.scheduling.tracker import InFlightTracker
from curate.engine.scheduling.worker_pool import IN_FLIGHT_BYTES, WorkerState
from curate.errors import AccountingError, InfrastructureError
from curate.io.rows import printable
from curate.monitoring import add_to
from curate.plan import Hop
from curate.records import ID, AudioBatch, Record

MAX_ISOLATED = 32
"""At most this many suspects go alone, one after the other; more of them are first narrowed down in groups."""

_GROUPS = 8


@dataclass(slots=True)
class InputBatch:
    """A batch of the phase's input; `seqs` are its records' positions there."""

    batch: AudioBatch
    seqs: Sequence[int]


@dataclass(slots=True)
class SuspectedBatch:
    """A batch that stays whole, while the records on which its worker may have died are tried alone.

    Args:
        trials: how many of them have no verdict yet.
        convicted: the verdicts against records, by their ids.
    """

    task: BatchTask
    trials: int
    convicted: dict[str, Quarantined] = field(default_factory=dict[str, Quarantined])


PhaseInput: TypeAlias = "Iterator[InputBatch | FinishedInputs]"
"""Batches to work on, and inputs that are finished before any work, such as a broken manifest line."""


class Scheduler:
    """Runs one phase.

    Args:
        transport: where the workers live.
        hops: what they do; at least one.
        reads_ahead: whether the input may be asked for a batch that no worker has room for yet, to share out its last
            batches well; not where the input waits for results.
        stopping: whether the run is to stop: batches that no worker has begun are then left to a later attempt.
        on_ready: called once, when each hop has a worker that is set up.
        on_activity: called when other stages may be at work than before.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        transport: Transport,
        hops: Sequence[Hop],
        *,
        reads_ahead: bool = True,
        stopping: Callable[[], bool] = lambda: False,
        on_ready: Callable[[], None] = lambda: None,
        on_activity: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._tracker = InFlightTracker(last_hop=len(hops) - 1)
        self._hops = [
            HopState(hop, number, transport.max_in_flight, merges=reads_ahead and transport.max_in_flight > 1)
            for number, hop in enumerate(hops)
        ]
        self._hop_of: dict[int, HopState] = {}
        self._autoscaler = Autoscaler(transport, self._hops, clock, on_ready)
        self._deadlines = Deadlines(transport, self._hops, clock) if transport.can_kill else None
        self._isolation: CrashIsolation | None = None
        """What is known about the records on which workers died; None while none has died."""
        self._trials: dict[int, SuspectedBatch] = {}
        """The batches that stay whole and wait for a verdict, by the number of each suspect's own task."""
        self._reads_ahead = reads_ahead
        self._stopping = stopping
        self._on_activity = on_activity
        self._exhausted = False
        self._numbers = itertools.count(1)
        self._measures: dict[str, Any] = {}
        self._finished: deque[FinishedInputs] = deque()

    def run(self, inputs: PhaseInput) -> Iterator[FinishedInputs]:
        """Yield the phase's inputs as they are finished, in any order; ends when all of them are.

        Raises:
            InfrastructureError: a worker could not be set up, or met a failure that is not a record's. What was
                finished by then has been yielded.
        """
        while True:
            while self._wants_more():
                incoming = next(inputs, None)
                if incoming is None:
                    self._exhausted = True
                elif isinstance(incoming, FinishedInputs):
                    yield incoming
                else:
                    batch = incoming.batch
                    described = batch.filepath_key, batch.task_id, batch.dataset_name
                    task = BatchTask(next(self._numbers), batch.data, *described)
                    self._tracker.add_batch(task.number, batch.data, incoming.seqs)
                    self._hops[0].queue.put(task)
            if self._stopping():
                self._exhausted = True
                self._hops[0].queue.clear()
            self._dispatch()
            yield from self._take_finished()
            if all(hop.is_idle for hop in self._hops):
                if not self._exhausted:  # what there was could not be sent, so there is nothing to wait for
                    continue
                if not self._tracker.empty and not self._stopping():
                    raise AccountingError(f"the workers are idle, but not finished: {self._tracker.described()}")
                return
            try:
                self._wait()
            except InfrastructureError:
                yield from self._take_finished()  # it need not be done again
                raise
            yield from self._take_finished()

    def drain(self, grace_s: float) -> Iterator[FinishedInputs]:
        """Yield the inputs that workers finish within `grace_s` seconds; no batch is started."""
        yield from self._take_finished()
        end = self._clock() + grace_s
        while not all(hop.workers.is_idle for hop in self._hops):
            left = end - self._clock()
            if left <= 0:
                return
            self._receive(left)
            yield from self._take_finished()

    @property
    def workers(self) -> tuple[int, ...]:
        """How many workers each hop has."""
        return tuple(len(hop.workers) for hop in self._hops)

    @property
    def at_work(self) -> tuple[str, ...]:
        """The stages that work at present, as far as the workers report it."""
        return tuple(name for hop in self._hops for name in hop.at_work())

    def take_busy_s(self) -> dict[str, float]:
        """Return how long each stage has worked since the last call, in seconds over all workers."""
        return {name: busy_s for hop in self._hops for name, busy_s in hop.take_busy_s().items()}

    def take_measures(self) -> dict[str, Any]:
        """Return the measures of each stage since the last call, added up over all workers."""
        taken, self._measures = self._measures, {}
        return taken

    def _take_finished(self) -> Iterator[FinishedInputs]:
        while self._finished:
            yield self._finished.popleft()

    # The input and the workers.

    def _wants_more(self) -> bool:
        """Return whether the input should be asked for another batch."""
        first = self._hops[0]
        if self._exhausted or self._is_blocked(0) or first.queue.bytes >= IN_FLIGHT_BYTES:
            return False
        depth = first.sizer.depth
        room = self._autoscaler.pending(0) + sum(max(0, depth - len(worker.in_flight)) for worker in first.workers)
        ahead = 1 if self._reads_ahead and self._autoscaler.target(0) > 1 else 0
        return len(first.queue) < (room + ahead) * first.sizer.merge_limit

    def _is_blocked(self, number: int) -> bool:
        return number + 1 < len(self._hops) and self._hops[number + 1].is_full

    # Sending.

    def _dispatch(self) -> None:
        """Start the workers that are due, and give queued batches to those that have room.

        Later hops come first, so that what is begun is finished.
        """
        if any(not hop.is_idle for hop in self._hops):  # no worker is started while there is nothing to do
            records = self._hops[0].queue.records if self._exhausted else None
            self._hop_of.update((worker, hop) for hop, worker in self._autoscaler.start_due(records))
        for hop in reversed(self._hops):
            queue, workers = hop.queue, hop.workers
            if not queue and not queue.suspects:
                continue
            if queue.suspects and not workers.is_isolating:
                idle = next((worker for worker in workers.idle() if worker.ready), None)
                if idle is not None:
                    self._send(hop, idle, queue.take_suspect(), isolated=True)
            while queue and not self._is_blocked(hop.number):
                reserve = bool(queue.suspects) and not workers.is_isolating
                worker = workers.find_free(hop.sizer.depth, reserve=reserve)
                if worker is None:
                    break
                task, batches = self._take_task(hop)
                self._send(hop, worker, task, batches=batches)

    def _take_task(self, hop: HopState) -> tuple[BatchTask, int]:
        """Take the next batch from a queue, or several short ones together, and return how many they are."""
        limit = hop.sizer.merge_limit
        if limit == 1 or len(hop.queue) == 1:
            return self._take_piece(hop), 1
        tasks = hop.queue.take_mergeable(limit)
        if len(tasks) == 1:
            return tasks[0], 1
        merged = tasks[0].piece(next(self._numbers), [record for task in tasks for record in task.records])
        self._tracker.merge([task.number for task in tasks], merged.number, merged.records)
        return merged, len(tasks)

    def _take_piece(self, hop: HopState) -> BatchTask:
        """Take the next batch from a queue, or a piece of it where workers would be idle otherwise."""
        task = hop.queue.take()
        records = task.records
        if len(records) == 1 or len(hop.workers) == 1 or hop.keeps_whole:
            return task
        pieces = hop.sizer.split_count(
            len(records),
            waiting=len(records) + hop.queue.records,
            workers=len(hop.workers),
            idle=len(hop.workers.idle()) - len(hop.queue),
            last=self._exhausted and all(before.is_idle for before in self._hops[: hop.number]),
        )
        if pieces == 1:
            return task
        # every `pieces`-th record, so that a piece of a batch that is ordered by length costs what the others cost
        self._tracker.track_individually(task.number)
        rest = [record for position, record in enumerate(records) if position % pieces]
        hop.queue.requeue([task.piece(next(self._numbers), rest)])
        return task.piece(next(self._numbers), records[::pieces])

    def _send(
        self, hop: HopState, worker: WorkerState, task: BatchTask, *, isolated: bool = False, batches: int = 1
    ) -> None:
        try:
            size = self._transport.send(worker.number, task)
        except Unsendable as error:
            self._bisect(hop, task, f"the record cannot be sent to a worker: {error}")
            return
        hop.workers.assign(worker, task, size, self._clock(), isolated=isolated, batches=batches)

    # Receiving.

    def _wait(self) -> None:
        """Receive events, for as long as there is nothing else to do, and end the workers that missed a deadline."""
        start_s = self._autoscaler.next_s()
        if self._deadlines is None:
            self._receive(start_s)
            return
        look_s = self._deadlines.next_s()
        self._receive(min((time_s for time_s in (start_s, look_s) if time_s is not None), default=None))
        self._deadlines.enforce()

    def _receive(self, timeout_s: float | None) -> None:
        for event in self._transport.wait(timeout_s):
            hop = self._hop_of[event.worker]
            worker = hop.workers.find(event.worker)
            if worker is not None:  # it was not removed meanwhile
                self._handle(hop, worker, event)

    def _handle(self, hop: HopState, worker: WorkerState, event: Event) -> None:
        if not isinstance(event, WorkerDied | WorkerFailed):
            hop.workers.record_progress(worker, self._clock(), polled=isinstance(event, RecordsAnnounced))
        match event:
            case ResultReceived():
                self._on_result(hop, worker, event)
            case BatchDone():
                self._on_batch_done(hop, worker, event)
            case RecordsAnnounced():
                hop.workers.record_announcement(worker, event)
                self._on_activity()
            case WorkerReady():
                hop.workers.mark_ready(worker)
                self._autoscaler.record_ready(hop)
            case BatchUnreadable():
                flight = hop.workers.release(worker, event.number)
                self._bisect(hop, flight.task, f"the worker could not read the record: {event.reason}")
            case WorkerFailed():
                self._on_failed(hop, worker, event)
            case WorkerDied():
                self._on_died(hop, worker, event)

    def _on_result(self, hop: HopState, worker: WorkerState, event: ResultReceived) -> None:
        flight = hop.record_result(worker, event.result)
        if event.result.measures:
            add_to(self._measures, event.result.measures)
        if event.result.number not in self._trials:
            self._finish(hop, flight.task, event.result, event.size)

    def _on_batch_done(self, hop: HopState, worker: WorkerState, event: BatchDone) -> None:
        flight = hop.record_done(worker, event.number)
        if self._isolation is not None:
            self._isolation.forget_batch(event.number)
            if flight.isolated:
                self._isolation.clear(flight.task.records[0])
                if event.number in self._trials:
                    self._end_trial(hop, flight.task, None)
        if len(self._hops) > 1:  # it has moved to another hop
            self._on_activity()

    def _on_failed(self, hop: HopState, worker: WorkerState, event: WorkerFailed) -> None:
        if worker.ready:
            raise event.error
        hop.workers.remove(worker)
        self._autoscaler.record_failure(hop, worker, event.error)

    def _on_died(self, hop: HopState, worker: WorkerState, died: WorkerDied) -> None:
        if not worker.ready:
            hop.workers.remove(worker)
            self._autoscaler.record_failure(hop, worker, _died_in_setup(hop, worker, died.reason))
            return
        logger.warning("a worker of {} died: {}", hop.hop.name, _first_line(died.reason))
        isolation = self._isolation = self._isolation or CrashIsolation()
        self._judge(hop, worker, died, isolation)
        self._requeue_batches(hop, worker, isolation, node_lost=died.node_lost)
        self._autoscaler.replace(hop, worker)

    def _finish(self, hop: HopState, task: BatchTask, result: PartialResult, size: int = 0) -> None:
        """Hand on what is kept of some records to the next hop, or note that inputs of the phase are finished."""
        onward = next(self._numbers)
        finished, forward = self._tracker.settle(hop.number, result, task.records, onward)
        if forward:
            self._hops[hop.number + 1].queue.put(task.piece(onward, forward), origin=task.number, size=size)
        if finished is not None:
            self._finished.append(finished)

    # Isolation of the record on which workers die, or which cannot be sent to one.

    def _judge(self, hop: HopState, worker: WorkerState, died: WorkerDied, isolation: CrashIsolation) -> None:
        """Decide about the record that a worker was alone with when it died."""
        for flight in list(worker.in_flight.values()):
            if flight.isolated and flight.unfinished():
                hop.workers.release(worker, flight.task.number)
                verdict = isolation.judge(worker, flight, hop.hop, died)
                if verdict is None:
                    hop.queue.retry_suspect(flight.task)
                elif flight.task.number in self._trials:
                    self._end_trial(hop, flight.task, verdict)
                else:
                    self._finish(hop, flight.task, _quarantined(flight.task, verdict))

    def _requeue_batches(
        self, hop: HopState, worker: WorkerState, isolation: CrashIsolation, *, node_lost: bool
    ) -> None:
        """Queue again what a dead worker has not finished: what it had announced alone, the rest as it was.

        Where very many are suspects, as when a stage announces nothing, a few smaller batches narrow them down first.
        """
        requeued: list[BatchTask] = []
        for flight in worker.in_flight.values():
            unfinished = flight.unfinished()
            if not unfinished:
                continue
            task = flight.task
            suspects = isolation.suspects(worker, flight, node_lost=node_lost)
            if not suspects and len(unfinished) == len(task.records):
                requeued.append(task)
                continue
            if hop.keeps_whole:
                trials = [task.piece(next(self._numbers), [record]) for record in suspects.values()]
                self._trials.update(dict.fromkeys([each.number for each in trials], SuspectedBatch(task, len(trials))))
                hop.queue.add_suspects(trials)
                continue
            self._tracker.track_individually(task.number)
            rest = [record for record in unfinished if record[ID] not in suspects]
            groups = [rest] if rest else []
            if len(suspects) <= MAX_ISOLATED:
                hop.queue.add_suspects(task.piece(next(self._numbers), [record]) for record in suspects.values())
            else:
                crowd = list(suspects.values())
                groups += [crowd[start::_GROUPS] for start in range(_GROUPS)]
            requeued.extend(task.piece(next(self._numbers), group) for group in groups)
        hop.queue.requeue(requeued, unmergeable=True)
        hop.workers.remove(worker)

    def _end_trial(self, hop: HopState, trial: BatchTask, verdict: Quarantined | None) -> None:
        """Record the verdict about a suspect of a batch that stays whole; after the last one, queue the batch again."""
        suspected = self._trials.pop(trial.number)
        suspected.trials -= 1
        if verdict is not None:
            suspected.convicted[verdict.root] = verdict
        if suspected.trials:
            return
        task = suspected.task
        if suspected.convicted:
            self._tracker.track_individually(task.number)
            notes = list(suspected.convicted.values())
            self._finish(hop, task, PartialResult(task.number, [], [], [], quarantined=notes))
        left = [record for record in task.records if record[ID] not in suspected.convicted]
        if left:
            hop.queue.requeue([task.piece(next(self._numbers), left) if suspected.convicted else task])

    def _bisect(self, hop: HopState, task: BatchTask, reason: str) -> None:
        """Queue a batch that cannot be transferred in halves, until the record that is to blame is alone."""
        if len(task.records) == 1:
            (record,) = task.records
            stage = hop.hop.stages[0].name if hop.hop.stages else ""
            note = Quarantined(record[ID], printable(record), stage, "bad_value", reason, "", 1)
            self._finish(hop, task, _quarantined(task, note))
            return
        self._tracker.track_individually(task.number)
        half = len(task.records) // 2
        halves: Sequence[list[Record]] = (task.records[:half], task.records[half:])
        hop.queue.requeue([task.piece(next(self._numbers), records) for records in halves], unmergeable=True)


def _quarantined(task: BatchTask, note: Quarantined) -> PartialResult:
    return PartialResult(task.number, [], [], [], quarantined=[note])


def _died_in_setup(hop: HopState, worker: WorkerState, reason: str) -> InfrastructureError:
    if worker.timed_out is not None:
        return InfrastructureError(f"a worker of {hop.hop.name} was not set up after {worker.timed_out:g} s: {reason}")
    return InfrastructureError(f"a worker of {hop.hop.name} died while it was set up: {reason}")


def _first_line(reason: str) -> str:
    return reason.partition("\n")[0]
