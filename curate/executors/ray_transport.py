"""Actors of one phase, and what they answer.

Each actor has its calls answered one after the other; what is waited for is the next answer of every one.
"""

from __future__ import annotations

import itertools
import math
import pickle
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from curate.engine.protocol.messages import (
    BatchDone,
    BatchTask,
    BatchUnreadable,
    Event,
    ResultReceived,
    WorkerDied,
    WorkerFailed,
)
from curate.engine.protocol.transport import HopSpec
from curate.engine.scheduling.deadlines import LOOKS, timeout_of
from curate.errors import InfrastructureError
from curate.executors.decoding import EventDecoder
from curate.executors.ray_session import import_ray
from curate.executors.ray_worker import RayWorker
from curate.executors.worker_payload import make_payload
from curate.executors.worker_process import pickled
from curate.plan import Hop

if TYPE_CHECKING:
    from curate.executors.ray import RayExecutor

QUICK_S = 0.05
"""Batches that are done sooner are asked for several at a time, in one answer; others tell how they get on."""

CALL_BATCHES = 8
"""So many quick batches go into one call."""

LOOK_S = 1.0
"""An actor says so often that its worker has moved on, or more often where a deadline asks for it."""

CLOSE_S = 40.0
"""So long may the teardown of all workers take; then the actors are killed."""


class _Call:
    """A call to an actor that has not ended: `ref` is what to wait for; a generator may have several answers."""

    def __init__(self, ref: Any, *, streams: bool) -> None:
        self.ref = ref
        self.streams = streams


class _Actor:
    """An actor as the driver sees it."""

    def __init__(self, handle: Any, hop: int) -> None:
        self.handle = handle
        self.hop = hop
        self.calls: deque[_Call] = deque()
        self.unsent: list[tuple[int, bytes]] = []
        self.left = 0
        """How many batches it has."""
        self.placed = False
        self.given_up = False


class RayTransport:
    """Actors of one phase."""

    max_in_flight = 64
    can_kill = True

    def __init__(self, hops: Sequence[HopSpec], executor: RayExecutor) -> None:
        self._ray = import_ray()
        self.setup_attempts = executor.setup_attempts
        self.setup_timeout_s = executor.setup_timeout_s
        self._hops = [spec.hop for spec in hops]
        self._parcels = [self._ray.put(make_payload(spec, elsewhere=True)) for spec in hops]
        self._environments = [executor.runtime_env_of(hop) for hop in self._hops]
        self._free: dict[str, float] = dict(self._ray.available_resources())
        self._actors: dict[int, _Actor] = {}
        self._quick = [False] * len(hops)
        self._pending: list[Event] = []
        self._decoder = EventDecoder(lambda worker: self._hops[self._actors[worker].hop].name, self.kill)
        self._next = itertools.count()

    def room(self, hop: int) -> int:
        mine = sum(actor.hop == hop for actor in self._actors.values())
        asked = self._hops[hop].workers
        if asked is not None:
            return asked - mine
        free = dict(self._free)
        for actor in self._actors.values():
            for name, amount in _asked(self._hops[actor.hop]).items():
                free[name] = free.get(name, 0.0) - amount
        wanted = {name: amount for name, amount in _asked(self._hops[hop]).items() if amount}
        rooms = [int(free.get(name, 0.0) / amount) for name, amount in wanted.items()]
        return max(1 - mine, min(rooms, default=1))

    def start(self, hop: int, slot: int) -> int:
        wanted = self._hops[hop].resources
        options: dict[str, Any] = {
            "num_cpus": wanted.cpus,
            "num_gpus": wanted.gpus,
            "resources": wanted.custom,
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": "SPREAD",
        }
        if wanted.memory:
            options["memory"] = wanted.memory
        if self._environments[hop]:
            options["runtime_env"] = self._environments[hop]
        handle = (
            self._ray.remote(concurrency_groups={"control": 1})(RayWorker)
            .options(**options)
            .remote(self._parcels[hop], wanted.cpus, min(LOOK_S, (timeout_of(self._hops[hop]) or math.inf) / LOOKS))
        )
        number = next(self._next)
        self._actors[number] = actor = _Actor(handle, hop)
        actor.calls.append(_Call(handle.setup.remote(), streams=False))
        return number

    def send(self, worker: int, work: BatchTask) -> int:
        payload = pickled(work)
        self._actors[worker].unsent.append((work.number, payload))
        return len(payload)

    def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
        if self._pending:
            pending, self._pending = self._pending, []
            return pending
        self._flush()
        if self._pending:
            return self.wait(0)
        heads = {actor.calls[0].ref: number for number, actor in self._actors.items() if actor.calls}
        refs = list(heads)
        if not refs:
            time.sleep(timeout_s or 0.0)  # until the next worker is to be started
        ready, others = self._waited(refs, 1, timeout_s) if refs else ([], [])
        if others:
            more, _ = self._waited(others, len(others), 0)
            ready = [*ready, *more]
        return [event for ref in ready for event in self._heard(heads[ref])]

    def _waited(self, refs: list[Any], count: int, timeout_s: float | None) -> tuple[list[Any], list[Any]]:
        try:
            return self._ray.wait(refs, num_returns=count, timeout=timeout_s, fetch_local=True)
        except SystemError as error:  # how Ray lets through what a signal's handler raises
            interrupt = error.__cause__ or error.__context__
            if interrupt is None:
                raise
            raise interrupt from None

    def _flush(self) -> None:
        for number, actor in list(self._actors.items()):
            quick = self._quick[actor.hop]
            while actor.unsent:
                batches, actor.unsent = actor.unsent[:CALL_BATCHES], actor.unsent[CALL_BATCHES:]
                actor.left += len(batches)
                try:
                    if quick:
                        actor.calls.append(_Call(actor.handle.work_at_once.remote(batches), streams=False))
                    else:
                        self._stream(actor, batches)
                except Exception as error:  # noqa: BLE001 (Ray's own, of many kinds)
                    self._pending.extend(self._failed(number, error))
                    break

    def _stream(self, actor: _Actor, batches: Sequence[tuple[int, bytes]] = ()) -> None:
        work = actor.handle.work.options(num_returns="streaming")
        actor.calls.append(_Call(work.remote(batches), streams=True))

    def _heard(self, number: int) -> Sequence[Event]:
        """Return the events of the call that an actor answers next."""
        actor = self._actors[number]
        call = actor.calls[0]
        try:
            if call.streams:
                ref = next(call.ref, None)
                if ref is None:
                    actor.calls.popleft()
                    self._listen_to_the_end(actor)
                    return ()
                answers: list[bytes] = [self._ray.get(ref)]
            else:
                answers = self._ray.get(call.ref)
                actor.calls.popleft()
        except Exception as error:  # noqa: BLE001 (Ray's own, of many kinds)
            return self._failed(number, error)
        actor.placed = True
        outputs = [(number, output) for answer in answers for _, output in pickle.loads(answer)]
        events: list[Event] = []
        for event in self._decoder.events(outputs):
            event.worker = number  # an actor knows its only worker as 0
            events.append(event)
            if isinstance(event, ResultReceived):
                self._quick[actor.hop] = sum(event.result.busy_s) < QUICK_S
            elif isinstance(event, BatchDone | BatchUnreadable):
                actor.left -= 1
            elif isinstance(event, WorkerDied | WorkerFailed):
                self._end(number)
        self._listen_to_the_end(actor)
        if actor.left and not actor.calls and number in self._actors:  # they were thought to be quick
            self._stream(actor)
        return events

    def _failed(self, number: int, error: Exception) -> Sequence[Event]:
        """Return what it means that an actor cannot be asked any more."""
        exceptions = self._ray.exceptions
        actor = self._actors.get(number)
        self._end(number)
        if isinstance(error, exceptions.RayActorError):
            given_up = actor is not None and actor.given_up
            told = self._no_place(actor) if actor is not None and given_up and not actor.placed else _brief(error)
            return [WorkerDied(number, told, node_lost=True)]
        cause = getattr(error, "cause", None)
        if isinstance(error, exceptions.ObjectStoreFullError) or isinstance(cause, exceptions.ObjectStoreFullError):
            told = f"Ray's object store is too small ({_brief(error)}); give it more with object_store_memory=…"
        else:
            told = f"ray: {_brief(error)}"
        return [WorkerFailed(number, InfrastructureError(told))]

    def _no_place(self, actor: _Actor) -> str:
        asked = {name: amount for name, amount in _asked(self._hops[actor.hop]).items() if amount}
        return f"no node had room for it: it asks for {asked}, and free at the beginning were {self._free}"

    def kill(self, worker: int) -> None:
        actor = self._actors[worker]
        actor.given_up = True
        if not actor.placed:
            self._ray.kill(actor.handle)
            return
        actor.handle.kill.options(concurrency_group="control").remote()
        self._listen_to_the_end(actor)

    def _listen_to_the_end(self, actor: _Actor) -> None:
        """Have an actor say how its worker has ended, if it is killed and no other call of it would tell."""
        if actor.given_up and not actor.calls:
            actor.calls.append(_Call(actor.handle.final_output.remote(), streams=False))

    def _end(self, number: int) -> None:
        actor = self._actors.pop(number, None)
        if actor is not None:
            self._ray.kill(actor.handle)

    def close(self) -> None:
        closing: list[Any] = []
        for actor in self._actors.values():
            if actor.calls:  # it is in the midst of something that nobody waits for any more
                self._ray.kill(actor.handle)
            else:
                closing.append(actor.handle.close.remote())
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=CLOSE_S)
        for number in list(self._actors):
            self._end(number)


def _asked(hop: Hop) -> dict[str, float]:
    """Return what a worker of a hop takes of Ray's resources, by Ray's names."""
    wanted = hop.resources
    return {"CPU": wanted.cpus, "GPU": wanted.gpus, "memory": float(wanted.memory or 0), **wanted.custom}


def _brief(error: Exception) -> str:
    """Return what an exception of Ray says, without the stack of its processes."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1] if lines and lines[0].startswith("\x1b") else " ".join(lines[:4])
