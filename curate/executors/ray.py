"""Runs the pipeline on a Ray cluster: every worker is an actor, on whatever node has what its stages ask for.

The actor holds a worker process, the same as on one machine (`processes`), so that a crash says which record it was at,
and a hang can be ended. Ray places the actors and carries the messages; what is tried again is decided by the
scheduler, and never by Ray. A lost node has to do with no record: what was there is sent on to others.
"""

from __future__ import annotations

import itertools
import os
import pickle
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from loguru import logger

from curate.engine.messages import Acknowledged, Died, Event, Started, Work, WorkerFailed
from curate.engine.transport import HopSpec
from curate.errors import InfrastructureError, PlanError
from curate.executors.hearing import Hearing
from curate.executors.parcel import Parcel, check_sendable, pack
from curate.executors.process import pickled, pinned
from curate.executors.processes import Heard, Processes
from curate.executors.wire import Frame, Kind
from curate.machine import Machine
from curate.plan import Hop, Plan
from curate.resources import parse_size

QUICK_S = 0.05
"""Batches that are done sooner are asked for several at a time, in one answer; others tell how they get on."""

CALL_BATCHES = 8
"""So many quick batches go into one call."""

NODE_VARIABLE = "CURATE_RAY_NODE_ID"
"""The environment variable in which stages find the id of the node that they work on."""

LOOK_S = 1.0
"""An actor says so often that its worker has moved on."""

CLOSE_S = 40.0
"""So long may the teardown of all workers take; then the actors are killed."""


def _size(value: str | int | None) -> int | None:
    return None if value is None else parse_size(value)


def _positive(_: Any, attribute: attrs.Attribute[Any], value: float) -> None:
    if not value > 0:
        raise ValueError(f"{attribute.name}={value!r}: must be above 0")


def _mappings(value: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: dict(each) for name, each in value.items()}


@attrs.frozen
class RayExecutor:
    """Runs the pipeline on a Ray cluster.

    Args:
        address: the cluster's, such as `auto` or `ray://head:10001`; None: a private one on this machine, which ends
            with the run and which nobody else uses.
        num_cpus: cores of the private cluster; None: those of this machine.
        num_gpus: cards of the private cluster; None: those of this machine.
        resources: custom resources of the private cluster, by name.
        object_store_memory: of the private cluster, in bytes or as a text such as `"2GB"`.
        runtime_env: Ray's runtime environment for all workers.
        runtime_envs: stage name → the runtime environment of its workers, instead.
        init: more options of `ray.init`.
        setup_attempts: how many workers are tried before a `setup()` that fails stops the run.
        setup_timeout_s: how long it may take until a worker has found a place and is set up.
        start_timeout_s: how long the private cluster may take to start, or the other one to answer.
    """

    address: str | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None
    resources: dict[str, float] = attrs.field(factory=dict[str, float], converter=dict)
    object_store_memory: int | None = attrs.field(default=None, converter=_size)
    runtime_env: dict[str, Any] = attrs.field(factory=dict[str, Any], converter=dict)
    runtime_envs: dict[str, dict[str, Any]] = attrs.field(factory=dict[str, dict[str, Any]], converter=_mappings)
    init: dict[str, Any] = attrs.field(factory=dict[str, Any], converter=dict)
    setup_attempts: int = attrs.field(default=3, validator=_positive)
    setup_timeout_s: float = attrs.field(default=1800.0, validator=_positive)
    start_timeout_s: float = attrs.field(default=120.0, validator=_positive)
    name: str = attrs.field(default="ray", init=False)
    _session: _Session = attrs.field(factory=lambda: _Session(), init=False, repr=False, eq=False)

    def check(self, plan: Plan) -> None:
        ray = import_ray()
        check_sendable(plan)
        if self.address is None and not ray.is_initialized():
            here = Machine.here()
            cpus = here.cpus if self.num_cpus is None else int(self.num_cpus)
            gpus = here.gpus if self.num_gpus is None else int(self.num_gpus)
            attrs.evolve(here, cpus=cpus, gpus=gpus).check(plan, executor=self.name, custom=self.resources)
        names = {planned.name for planned in plan.stages}
        for name in self.runtime_envs:
            if name not in names:
                raise PlanError(f"runtime_envs names {name!r}, and the stages are {', '.join(sorted(names))}")
        for phase in plan.phases:
            for hop in phase.hops:
                self.runtime_env_of(hop)
                if hop.resources.gpu_memory_gb and not hop.resources.gpus:
                    raise PlanError(
                        f"stage {hop.stages[0].name!r} asks for gpu_memory_gb={hop.resources.gpu_memory_gb:g} without "
                        "gpus; Ray shares out cards and not their memory: say gpus=… as well, as a fraction",
                        hop.stages[0].name,
                    )

    def runtime_env_of(self, hop: Hop) -> dict[str, Any]:
        """Return the runtime environment of a hop's workers.

        Raises:
            PlanError: its stages ask for different ones, but work in the same worker.
        """
        asked = {stage.name: self.runtime_envs.get(stage.name, self.runtime_env) for stage in hop.stages}
        first = next(iter(asked.values()), self.runtime_env)
        for name, environment in asked.items():
            if environment != first:
                raise PlanError(
                    f"stages {hop.stages[0].name!r} and {name!r} work in the same worker, because they ask for the "
                    "same resources, but have different runtime_envs; give one of them other resources",
                    name,
                )
        return first

    def open(self, hops: Sequence[HopSpec]) -> RayTransport:
        self._session.start(self)
        return RayTransport(hops, self)

    def close(self) -> None:
        self._session.end()


def import_ray() -> Any:
    """Return the module `ray`.

    Raises:
        PlanError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise PlanError(f"the ray executor needs Ray ({error}): pip install 'curate-speech[ray]'") from error
    return ray


class _Session:
    """The connection to a cluster, from the first phase of a run to its last."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._ours = False

    def start(self, executor: RayExecutor) -> None:
        """Connect, unless this process is connected.

        Raises:
            InfrastructureError: there is no cluster at the address, or a private one does not start.
        """
        ray = import_ray()
        if ray.is_initialized():
            if not self._ours:
                logger.info("ray: the cluster that this process is connected to")
            return
        options: dict[str, Any] = {
            "log_to_driver": False,
            "configure_logging": False,
            "logging_level": "WARNING",
            **({"runtime_env": executor.runtime_env} if executor.runtime_env else {}),
        }
        if executor.address is None:
            # not below the run directory: the paths of its sockets must be short
            self._folder = Path(tempfile.mkdtemp(prefix="curate-ray-"))
            os.environ.setdefault("RAY_raylet_start_wait_time_s", str(int(executor.start_timeout_s)))
            options |= {
                "address": "local",  # whatever RAY_ADDRESS says
                "num_cpus": executor.num_cpus,
                "num_gpus": executor.num_gpus,
                "resources": executor.resources or None,
                "object_store_memory": executor.object_store_memory,
                "include_dashboard": False,
                "_temp_dir": str(self._folder),
            }
            where = f"a private cluster on this machine, in {self._folder}"
        else:
            options["address"] = executor.address
            where = f"the cluster at {executor.address}"
        try:
            if executor.address is not None:
                _check_reachable(executor.address, executor.start_timeout_s)
            with _sigterm_kept():
                ray.init(**(options | executor.init))
        except Exception as error:
            self.end()
            raise InfrastructureError(f"ray: {where} cannot be had: {error}") from error
        self._ours = True
        nodes = sum(bool(node["Alive"]) for node in ray.nodes())
        logger.info("ray: {}, {} node{}", where, nodes, "s" * (nodes != 1))

    def end(self) -> None:
        """Let go of the cluster, if the connection is ours; a private one ends."""
        if self._ours:
            self._ours = False
            import_ray().shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)  # some of Ray's processes may still write there
            self._folder = None


@contextmanager
def _sigterm_kept() -> Generator[None]:
    """Keep what this process does on SIGTERM: `ray.init` puts handlers of its own there, which would end it at once."""
    handler = signal.getsignal(signal.SIGTERM)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        yield
    except SystemExit:  # raised by Ray's handler: SIGTERM came meanwhile
        handler(signal.SIGTERM, None)
        raise
    finally:
        signal.signal(signal.SIGTERM, handler)


def _check_reachable(address: str, timeout_s: float) -> None:
    """Check that somebody listens at an address, because Ray would try for many minutes.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s).close()


class RayWorker:
    """The actor: a worker process on its node, and what it says.

    Args:
        parcel: what the worker is given.
        cpus: cores that it may use.
    """

    def __init__(self, parcel: Parcel, cpus: float) -> None:
        self._processes = Processes()
        cards = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        environment = pinned(cpus, [card for card in cards.split(",") if card])
        environment[NODE_VARIABLE] = import_ray().get_runtime_context().get_node_id()
        self._processes.start(0, parcel, environment)

    def setup(self) -> list[bytes]:
        """Return how the set-up has ended, and what was said meanwhile."""
        heard: list[Heard] = []
        while not any(_ends(what, Kind.READY, Kind.FAILED) for _, what in heard):
            heard.extend(self._processes.wait())
        return [pickle.dumps(heard, 5)]

    def work(self, batches: Sequence[tuple[int, bytes]]) -> Iterator[bytes]:
        """Yield what happens until the batches are done, or the worker is gone."""
        for number, payload in batches:
            self._processes.send(0, number, payload)
        left = len(batches)
        while left:
            heard = self._processes.wait(LOOK_S)
            for _, what in heard:
                if _ends(what, Kind.FAILED):
                    left = 0
                elif _ends(what, Kind.DONE, Kind.UNREADABLE):
                    left -= 1
            if heard:
                yield pickle.dumps(heard, 5)

    def work_at_once(self, batches: Sequence[tuple[int, bytes]]) -> list[bytes]:
        """Return what has happened when the batches are done, or the worker is gone."""
        return list(self.work(batches))

    def kill(self) -> None:
        """Kill the worker process; whoever waits for it hears of it."""
        self._processes.kill(0)

    def last_words(self) -> list[bytes]:
        """Return what is still heard of a worker that is killed."""
        heard: list[Heard] = []
        while 0 in self._processes:
            heard.extend(self._processes.wait())
        return [pickle.dumps(heard, 5)]

    def close(self) -> None:
        """Let the worker tear down its stages."""
        self._processes.close()


def _ends(what: Frame | Started | Died, *kinds: Kind) -> bool:
    """Return whether this is a frame of one of some kinds, or the worker's end."""
    return isinstance(what, Died) or (isinstance(what, tuple) and what[0] in kinds)


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
        self._parcels = [self._ray.put(pack(spec, elsewhere=True)) for spec in hops]
        self._environments = [executor.runtime_env_of(hop) for hop in self._hops]
        self._free: dict[str, float] = dict(self._ray.available_resources())
        self._actors: dict[int, _Actor] = {}
        self._quick = [False] * len(hops)
        self._pending: list[Event] = []
        self._hearing = Hearing(lambda worker: self._hops[self._actors[worker].hop].name, self.kill)
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
            .remote(self._parcels[hop], wanted.cpus)
        )
        number = next(self._next)
        self._actors[number] = actor = _Actor(handle, hop)
        actor.calls.append(_Call(handle.setup.remote(), streams=False))
        return number

    def send(self, worker: int, work: Work) -> int:
        payload = pickled(work)
        self._actors[worker].unsent.append((work.number, payload))
        return len(payload)

    def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
        if self._pending:
            pending, self._pending = self._pending, []
            return pending
        self._flush()
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
                try:
                    if quick:
                        call = _Call(actor.handle.work_at_once.remote(batches), streams=False)
                    else:
                        work = actor.handle.work.options(num_returns="streaming")
                        call = _Call(work.remote(batches), streams=True)
                except Exception as error:  # noqa: BLE001 (Ray's own, of many kinds)
                    self._pending.extend(self._failed(number, error))
                    break
                actor.calls.append(call)

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
        heard = [(number, what) for answer in answers for _, what in pickle.loads(answer)]
        events: list[Event] = []
        for event in self._hearing.events(heard):
            event.worker = number  # an actor knows its only worker as 0
            events.append(event)
            if isinstance(event, Acknowledged):
                self._quick[actor.hop] = sum(event.part.busy_s) < QUICK_S
            elif isinstance(event, Died | WorkerFailed):
                self._end(number)
        self._listen_to_the_end(actor)
        return events

    def _failed(self, number: int, error: Exception) -> Sequence[Event]:
        """Return what it means that an actor cannot be asked any more."""
        exceptions = self._ray.exceptions
        actor = self._actors.get(number)
        self._end(number)
        if isinstance(error, exceptions.RayActorError):
            given_up = actor is not None and actor.given_up
            told = self._no_place(actor) if actor is not None and given_up and not actor.placed else _brief(error)
            return [Died(number, told, innocent=True)]
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
            actor.calls.append(_Call(actor.handle.last_words.remote(), streams=False))

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
