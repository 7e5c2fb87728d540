"""The Ray transport: the actors of one phase, and their calls.

An actor answers its calls one after the other; `wait` waits for the next answer of every actor.
"""

from __future__ import annotations

import itertools
import math
import pickle
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from curate.engine.protocol.messages import (
    BatchDone,
    BatchTask,
    BatchUnreadable,
    Event,
    ResultReceived,
    WorkerDied,
    WorkerFailed,
)
from curate.engine.protocol.transport import LOOKS, HopSpec, timeout_of
from curate.errors import InfrastructureError
from curate.executors.decoding import EventDecoder
from curate.executors.ray_session import import_ray
from curate.executors.ray_worker import RayWorker
from curate.executors.worker_payload import make_payload
from curate.executors.worker_process import pickled
from curate.plan import Hop

QUICK_S = 0.05
"""Batches that take less than this go into a call together and are answered together; slower ones are streamed."""

CALL_BATCHES = 8
"""The maximum number of quick batches in one call."""

LOOK_S = 1.0
"""The interval at which an actor reports its worker's progress; deadlines can shorten it."""

CLOSE_S = 40.0
"""The time that the teardown of all workers may take; then the actors are killed."""


class _Call:
    """An unfinished call to an actor: `ref` is the next answer; a streaming call may have several."""

    def __init__(self, ref: Any, *, streams: bool) -> None:
        self.ref = ref
        self.streams = streams


class _Actor:
    """The driver's state of an actor."""

    def __init__(self, handle: Any, hop: int) -> None:
        self.handle = handle
        self.hop = hop
        self.calls: deque[_Call] = deque()
        self.unsent: list[tuple[int, bytes]] = []
        self.left = 0
        """The number of its unfinished batches."""
        self.placed = False
        self.given_up = False


class RayTransport:
    """Actors of one phase.

    Args:
        hops: the hops of the phase.
        environments: the Ray runtime environment of the workers of each hop.
        setup_attempts: how many workers are tried before a `setup()` that fails stops the run.
        setup_timeout_s: how long it may take until a worker has found a node and is set up.
    """

    max_in_flight = 64
    can_kill = True

    def __init__(
        self,
        hops: Sequence[HopSpec],
        environments: Sequence[Mapping[str, Any]],
        *,
        setup_attempts: int,
        setup_timeout_s: float,
    ) -> None:
        self._ray = import_ray()
        self.setup_attempts = setup_attempts
        self.setup_timeout_s = setup_timeout_s
        self._hops = [spec.hop for spec in hops]
        self._parcels = [self._ray.put(make_payload(spec, elsewhere=True)) for spec in hops]
        self._environments = [dict(environment) for environment in environments]
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
        return [event for ref in ready for event in self._answered(heads[ref])]

    def _waited(self, refs: list[Any], count: int, timeout_s: float | None) -> tuple[list[Any], list[Any]]:
        try:
            return self._ray.wait(refs, num_returns=count, timeout=timeout_s, fetch_local=True)
        except SystemError as error:  # Ray wraps what a signal handler raises
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
                        actor.calls.append(_Call(actor.handle.work_together.remote(batches), streams=False))
                    else:
                        self._stream(actor, batches)
                except Exception as error:  # noqa: BLE001 (Ray's own, of many kinds)
                    self._pending.extend(self._failed(number, error))
                    break

    def _stream(self, actor: _Actor, batches: Sequence[tuple[int, bytes]] = ()) -> None:
        work = actor.handle.work.options(num_returns="streaming")
        actor.calls.append(_Call(work.remote(batches), streams=True))

    def _answered(self, number: int) -> Sequence[Event]:
        """Return the events of an actor's next answer."""
        actor = self._actors[number]
        call = actor.calls[0]
        try:
            if call.streams:
                ref = next(call.ref, None)
                if ref is None:
                    actor.calls.popleft()
                    self._request_final_output(actor)
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
        # All are decoded before the first one ends the actor: what a teardown logs may come with what made it fail.
        for event in list(self._decoder.events(outputs)):
            event.worker = number  # in an actor, its only worker has the number 0
            events.append(event)
            if isinstance(event, ResultReceived):
                self._quick[actor.hop] = sum(event.result.busy_s) < QUICK_S
            elif isinstance(event, BatchDone | BatchUnreadable):
                actor.left -= 1
            elif isinstance(event, WorkerDied | WorkerFailed):
                self._end(number)
        self._request_final_output(actor)
        if actor.left and not actor.calls and number in self._actors:  # batches that were slower than expected
            self._stream(actor)
        return events

    def _failed(self, number: int, error: Exception) -> Sequence[Event]:
        """Return the event that follows from a failed call to an actor."""
        exceptions = self._ray.exceptions
        actor = self._actors.get(number)
        self._end(number)
        if isinstance(error, exceptions.RayActorError):
            given_up = actor is not None and actor.given_up
            reason = self._no_place(actor) if actor is not None and given_up and not actor.placed else _brief(error)
            return [WorkerDied(number, reason, node_lost=True)]
        cause = getattr(error, "cause", None)
        if isinstance(error, exceptions.ObjectStoreFullError) or isinstance(cause, exceptions.ObjectStoreFullError):
            message = f"Ray's object store is too small ({_brief(error)}); give it more with object_store_memory=…"
        else:
            message = f"ray: {_brief(error)}"
        return [WorkerFailed(number, InfrastructureError(message))]

    def _no_place(self, actor: _Actor) -> str:
        asked = {name: amount for name, amount in _asked(self._hops[actor.hop]).items() if amount}
        return f"no node had room for it: it asks for {asked}, and the cluster had {self._free} free at the start"

    def kill(self, worker: int) -> None:
        actor = self._actors[worker]
        actor.given_up = True
        if not actor.placed:
            self._ray.kill(actor.handle)
            return
        actor.handle.kill.options(concurrency_group="control").remote()
        self._request_final_output(actor)

    def _request_final_output(self, actor: _Actor) -> None:
        """Ask a killed actor how its worker ended, unless an earlier call will report it."""
        if actor.given_up and not actor.calls:
            actor.calls.append(_Call(actor.handle.final_output.remote(), streams=False))

    def _end(self, number: int) -> None:
        actor = self._actors.pop(number, None)
        if actor is not None:
            self._ray.kill(actor.handle)

    def close(self) -> None:
        closing: dict[Any, int] = {}
        for number, actor in self._actors.items():
            if actor.left or actor.given_up or not actor.placed:  # busy, for an answer that is no longer needed
                self._ray.kill(actor.handle)
            else:
                closing[actor.handle.close.remote()] = number
        if closing:
            ended, _ = self._ray.wait(list(closing), num_returns=len(closing), timeout=CLOSE_S)
            for ref in ended:
                self._log_rest(closing[ref], ref)
        for number in list(self._actors):
            self._end(number)

    def _log_rest(self, number: int, ref: Any) -> None:
        """Log what a worker has logged during its teardown."""
        with suppress(Exception):  # Ray's own, of many kinds: the actor is gone, and nothing depends on its answer
            for answer in self._ray.get(ref):
                outputs = [(number, output) for _, output in pickle.loads(answer)]
                deque(self._decoder.events(outputs), maxlen=0)


def _asked(hop: Hop) -> dict[str, float]:
    """Return the resources that a worker of a hop asks of Ray, by Ray's names."""
    wanted = hop.resources
    return {"CPU": wanted.cpus, "GPU": wanted.gpus, "memory": float(wanted.memory or 0), **wanted.custom}


def _brief(error: Exception) -> str:
    """Return the message of a Ray exception, without the stacks of its processes."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1] if lines and lines[0].startswith("\x1b") else " ".join(lines[:4])
