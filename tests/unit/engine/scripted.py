"""A transport on paper: workers that do what a script says, in time that passes only where somebody waits for it."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

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
    Split,
    WorkerDied,
    WorkerFailed,
    WorkerReady,
)
from curate.engine.protocol.transport import Unsendable
from curate.engine.scheduling.scheduler import InputBatch, Scheduler
from curate.errors import InfrastructureError
from curate.plan import Hop, PlannedStage
from curate.records import ID, AudioBatch, Record
from curate.resources import Resources
from curate.stage_decorator import processing_stage

QUICK_S = 0.001

MOST_WAITS = 20_000

Deed = float | str
"""How many seconds a record takes, or how it ends its worker: "dies", "killed" (from outside), "vanishes" (its node is
gone), or "hangs".
"""

Script = Callable[[int, Record], Deed]
"""The hop's number and the record → what happens to the worker that touches it."""


class Clock:
    """Seconds that pass only when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Sent:
    """A batch, when it was sent, and to whom."""

    at_s: float
    worker: int
    hop: int
    ids: tuple[str, ...]


@dataclass
class Actor:
    """A worker on paper."""

    number: int
    hop: int
    slot: int
    inbox: deque[BatchTask] = field(default_factory=deque[BatchTask])
    position: int | None = None
    """The record of the first batch that it is at; None: it is at none."""
    told: tuple[int, int | None] = (0, None)
    alive: bool = True
    ready: bool = False


class ScriptedTransport:
    """Workers that touch one record after the other.

    Args:
        script: what becomes of a worker with a record; without one, every record takes `QUICK_S`.
        room: how many workers each hop may have.
        in_flight: how many batches a worker may have.
        part: so many records are acknowledged together; for each worker, by its number, if it is a function.
        touches: the positions that a worker at a position has announced; None: any.
        setup: what becomes of the n-th worker that is started, counted from 0: seconds until it is ready, "fails",
            "dies" or "hangs".
        children: into how many records a hop splits a record; 0: it does not.
        size: what a batch, and the message about its end, weighs in bytes.
    """

    setup_timeout_s = 60.0

    def __init__(
        self,
        script: Script | None = None,
        *,
        room: Sequence[int] = (100,),
        in_flight: int = 2,
        part: int | Callable[[int], int] = 1000,
        touches: Callable[[BatchTask, int], Sequence[int] | None] = lambda work, position: [position],
        setup: Callable[[int], float | str] = lambda started: 0.0,
        setup_attempts: int = 3,
        children: Callable[[int, Record], int] = lambda hop, record: 0,
        size: Callable[[BatchTask], int] = lambda work: 0,
        unsendable: frozenset[str] = frozenset(),
        unreadable: frozenset[str] = frozenset(),
        can_kill: bool = True,
    ) -> None:
        self.clock = Clock()
        self.max_in_flight = in_flight
        self.setup_attempts = setup_attempts
        self.can_kill = can_kill
        self.actors: list[Actor] = []
        self.started_at: list[float] = []
        self.sent: list[Sent] = []
        self.killed: list[int] = []
        self.waits: list[float | None] = []
        self._script = script or (lambda hop, record: QUICK_S)
        self._room, self._touches, self._setup = room, touches, setup
        self._part = part if callable(part) else (lambda worker: part)
        self._children, self._size = children, size
        self._unsendable, self._unreadable = unsendable, unreadable
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._said: list[Event] = []

    # What the scheduler calls.

    def room(self, hop: int) -> int:
        return self._room[hop] - len(self.of(hop))

    def start(self, hop: int, slot: int) -> int:
        actor = Actor(len(self.actors), hop, slot)
        self.actors.append(actor)
        self.started_at.append(self.clock.now)
        self.after(0.0, lambda: self._set_up(actor, self._setup(actor.number)))
        return actor.number

    def send(self, worker: int, work: BatchTask) -> int:
        ids = tuple(record[ID] for record in work.records)
        if self._unsendable.intersection(ids):
            raise Unsendable("it holds a lock")
        actor = self.actors[worker]
        self.sent.append(Sent(self.clock.now, worker, actor.hop, ids))
        if actor.alive:
            actor.inbox.append(work)
            assert len(actor.inbox) <= self.max_in_flight
            if actor.position is None and len(actor.inbox) == 1:
                self._begin(actor)
        return self._size(work)

    def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
        self.waits.append(timeout_s)
        assert timeout_s is None or timeout_s >= 0
        assert len(self.waits) < MOST_WAITS, "it goes on for ever"
        end = None if timeout_s is None else self.clock.now + timeout_s
        while not self._said:
            assert self._agenda or end is not None, "nothing will ever happen, and nobody looks at the clock"
            if end is not None and (not self._agenda or self._agenda[0][0] > end):
                break
            at_s, _, step = heapq.heappop(self._agenda)
            self.clock.now = max(self.clock.now, at_s)
            step()
        if end is not None and (not self._said or self.clock.now >= end):
            self.clock.now = max(self.clock.now, end)
            self._said += [started for actor in self.actors if (started := self._look(actor)) is not None]
        said, self._said = self._said, []
        return said

    def kill(self, worker: int) -> None:
        self.killed.append(worker)
        self.after(0.0, lambda: self.end(worker, "killed by SIGKILL", killed_externally=True))

    def close(self) -> None:
        pass

    # What a test calls.

    def of(self, hop: int) -> list[Actor]:
        """Return the hop's workers that are there."""
        return [actor for actor in self.actors if actor.hop == hop and actor.alive]

    def after(self, seconds: float, step: Callable[[], None]) -> None:
        """Have something happen, so many seconds from now."""
        heapq.heappush(self._agenda, (self.clock.now + seconds, next(self._order), step))

    def end(self, worker: int, reason: str, **how: bool) -> None:
        """End a worker, whatever it does."""
        actor = self.actors[worker]
        if actor.alive:
            started = self._look(actor)
            actor.alive = False
            self._said += [*([] if started is None else [started]), WorkerDied(worker, reason, **how)]

    def batches_of(self, identity: str) -> list[int]:
        """Return the sizes of the batches in which a record was sent, in order."""
        return [len(sent.ids) for sent in self.sent if identity in sent.ids]

    # What the workers do.

    def _set_up(self, actor: Actor, how: float | str) -> None:
        if isinstance(how, float):
            self.after(how, lambda: self._ready(actor))
        elif how == "fails":
            actor.alive = False
            self._said.append(WorkerFailed(actor.number, InfrastructureError("the model is missing")))
        elif how == "dies":
            self.end(actor.number, "killed by SIGSEGV")
        else:
            assert how == "hangs"

    def _ready(self, actor: Actor) -> None:
        if actor.alive:
            actor.ready = True
            self._said.append(WorkerReady(actor.number))

    def _begin(self, actor: Actor) -> None:
        work = actor.inbox[0]
        bad = self._unreadable.intersection(record[ID] for record in work.records)
        if bad:
            actor.inbox.popleft()
            self._said.append(BatchUnreadable(actor.number, work.number, "a value does not arrive"))
            if actor.inbox:
                self._begin(actor)
            return
        self._touch(actor, work, 0)

    def _touch(self, actor: Actor, work: BatchTask, position: int) -> None:
        actor.position = position
        deed = self._script(actor.hop, work.records[position])
        if isinstance(deed, float):
            self.after(deed, lambda: self._finish(actor, work, position, deed))
        elif isinstance(deed, str) and deed != "hangs":
            how = {"dies": {}, "killed": {"killed_externally": True}, "vanishes": {"node_lost": True}}[deed]
            reason = {"dies": "killed by SIGSEGV", "killed": "killed by SIGKILL", "vanishes": "its node is gone"}[deed]
            self.after(QUICK_S, lambda: self.end(actor.number, reason, **how))

    def _finish(self, actor: Actor, work: BatchTask, position: int, spent_s: float) -> None:
        if not actor.alive:
            return
        done = position + 1
        size = self._part(actor.number)
        if done % size == 0 or done == len(work.records):
            start = (done - 1) // size * size
            part = self._parted(actor.hop, work, start, done, spent_s)
            self._said.append(ResultReceived(actor.number, part, self._size(work)))
        if done < len(work.records):
            self._touch(actor, work, done)
            return
        self._said.append(BatchDone(actor.number, work.number))
        actor.inbox.popleft()
        actor.position = None
        if actor.inbox:
            self._begin(actor)

    def _parted(self, hop: int, work: BatchTask, start: int, end: int, spent_s: float) -> PartialResult:
        part = PartialResult(work.number, [], [], [], busy_s=[spent_s * (end - start)])
        for record in work.records[start:end]:
            identity, count = record[ID], self._children(hop, record)
            outs = [{**record, ID: f"{identity}/{k}"} for k in range(count)] or [dict(record)]
            if count:
                part.splits.append(Split(identity, f"a{hop}", count, 0, 0))
            part.kept.extend(outs)
            part.kept_roots.extend([identity] * len(outs))
            part.kept_ms.extend([0] * len(outs))
        return part

    def _look(self, actor: Actor) -> RecordsAnnounced | None:
        if not actor.alive or actor.position is None:
            return None
        work = actor.inbox[0]
        if actor.told == (work.number, actor.position):
            return None
        actor.told = work.number, actor.position
        return RecordsAnnounced(actor.number, work.number, {0: self._touches(work, actor.position)})


@processing_stage(name="a")
def copied(record: dict) -> dict:
    return record


def hops(*workers: int | None, **options: Any) -> tuple[Hop, ...]:
    """Return planned hops of one stage each, `a0`, `a1`, …"""
    return tuple(
        Hop((PlannedStage(f"a{n}", "processing", copied.with_(name=f"a{n}", **options), None),), Resources(), count)
        for n, count in enumerate(workers)
    )


def batches(*sizes: int, read: list[int] | None = None, **columns: Any) -> Iterator[InputBatch]:
    """Yield batches of records `r:0`, `r:1`, …"""
    start = 0
    for number, size in enumerate(sizes):
        if read is not None:
            read.append(number)
        seqs = range(start, start + size)
        yield InputBatch(AudioBatch([{ID: f"r:{seq}", **columns} for seq in seqs]), seqs)
        start += size


@dataclass
class Outcome:
    """What a run came to."""

    rows: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    """The ids that were kept of every root."""
    quarantined: dict[str, Quarantined] = field(default_factory=dict[str, Quarantined])

    @property
    def codes(self) -> dict[str, str]:
        return {identity: note.code for identity, note in self.quarantined.items()}

    def take(self, settled: FinishedInputs) -> None:
        """Take in some roots, each for the first time."""
        for seq in settled.seqs:
            assert seq not in self.rows
            self.rows[seq] = []
        for seq, row in zip(settled.row_seqs, settled.rows, strict=True):
            assert isinstance(row, dict)
            self.rows[seq].append(row[ID])
        for _, note in settled.quarantined:
            assert note.record[ID] not in self.quarantined
            self.quarantined[note.record[ID]] = note


def scheduler(transport: ScriptedTransport, planned: Sequence[Hop], **options: Any) -> Scheduler:
    return Scheduler(transport, planned, clock=transport.clock, **options)


def run(transport: ScriptedTransport, planned: Sequence[Hop], feed: Iterator[Any]) -> Outcome:
    """Run a phase to its end."""
    outcome = Outcome()
    for settled in scheduler(transport, planned).run(feed):
        outcome.take(settled)
    return outcome


def kept(count: int, *without: int) -> dict[int, list[str]]:
    """Return the rows of a run that keeps every record, except for some."""
    return {seq: [] if seq in without else [f"r:{seq}"] for seq in range(count)}
