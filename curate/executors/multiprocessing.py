"""Runs the pipeline on all cores and cards of this machine: every worker is a process of its own.

A worker that crashes or hangs costs the record that it was touching, and nothing else.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Sequence
from typing import Any

import attrs

from curate.engine.messages import Event, Work
from curate.engine.transport import HopSpec
from curate.executors.cards import seat
from curate.executors.parcel import Parcel, check_sendable, pack
from curate.executors.process import WorkerProcess, pinned, unreadable
from curate.machine import Card, Machine, find_cards
from curate.plan import Plan

TEARDOWN_S = 30.0
"""So long may the teardown of all workers take; then they are killed."""

BUSY_S = 5.0
"""The same where a worker is interrupted in the midst of a batch."""


def _positive(_: Any, attribute: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and not value > 0:
        raise ValueError(f"{attribute.name}={value!r}: must be above 0")


@attrs.frozen
class MultiprocessingExecutor:
    """Runs the pipeline in processes of their own on this machine.

    Args:
        cpus: cores that are shared out where a stage does not say `workers`; None: those that this process may use.
        gpus: the cards to use, as CUDA_VISIBLE_DEVICES would list them; None: those that this process sees.
        setup_attempts: how many workers are tried before a `setup()` that fails stops the run.
        setup_timeout_s: how long a `setup()` may take.
    """

    cpus: float | None = attrs.field(default=None, validator=_positive)
    gpus: tuple[str, ...] | None = attrs.field(
        default=None, converter=attrs.converters.optional(lambda ids: tuple(map(str, ids)))
    )
    setup_attempts: int = attrs.field(default=3, validator=_positive)
    setup_timeout_s: float = attrs.field(default=1800.0, validator=_positive)
    name: str = attrs.field(default="multiprocessing", init=False)

    def check(self, plan: Plan) -> None:
        cards = self.cards()
        attrs.evolve(Machine.here(), gpus=len(cards)).check(plan, executor=self.name)
        check_sendable(plan)
        for phase in plan.phases:
            seat(phase.hops, cards)

    def open(self, hops: Sequence[HopSpec]) -> MultiprocessingTransport:
        return MultiprocessingTransport(hops, self)

    def close(self) -> None:
        pass

    def cards(self) -> tuple[Card, ...]:
        """Return the cards that workers may have."""
        if self.gpus is None:
            return find_cards()
        known = {card.id: card for card in find_cards()}
        return tuple(known.get(device, Card(device)) for device in self.gpus)


class MultiprocessingTransport:
    """Worker processes, and one selector that hears them all."""

    max_in_flight = 64
    can_kill = True

    def __init__(self, hops: Sequence[HopSpec], executor: MultiprocessingExecutor) -> None:
        self.setup_attempts = executor.setup_attempts
        self.setup_timeout_s = executor.setup_timeout_s
        machine = Machine.here()
        self._cpus = executor.cpus or machine.cpus
        self._memory = machine.memory
        self._hops = [spec.hop for spec in hops]
        self._parcels: list[Parcel] = [pack(spec) for spec in hops]
        seating = seat(self._hops, executor.cards())
        self._taken = dict(seating.taken)
        self._seats = seating.seats
        self._selector = selectors.DefaultSelector()
        self._workers: dict[int, WorkerProcess] = {}
        self._hop_of: dict[int, int] = {}
        self._unsent: set[int] = set()
        self._blocked: set[int] = set()
        self._next = 0

    def room(self, hop: int) -> int:
        there = list(self._hop_of.values())
        mine, wanted = there.count(hop), self._hops[hop].resources
        asked = self._hops[hop].workers
        if asked is not None:
            return asked - mine
        used = sum(self._hops[other].resources.cpus for other in there)
        rooms = [int((self._cpus - used) / wanted.cpus) if wanted.cpus else int(self._cpus)]
        if wanted.memory:
            used_memory = sum(self._hops[other].resources.memory or 0 for other in there)
            rooms.append((self._memory - used_memory) // wanted.memory)
        if wanted.gpus or wanted.gpu_memory_gb:
            rooms.append(self._free_seats(hop))
        return max(1 - mine, min(rooms))

    def _free_seats(self, hop: int) -> int:
        """Return how many more workers of a hop find cards."""
        wanted, found = self._hops[hop].resources, []
        while (ids := self._seats.take(wanted)) is not None:
            found.append(ids)
        for ids in found:
            self._seats.give_back(ids, wanted)
        return len(found) + (1 if hop not in self._hop_of.values() else 0)  # the first one's are taken already

    def start(self, hop: int, slot: int) -> int:
        number, self._next = self._next, self._next + 1
        wanted = self._hops[hop].resources
        if (hop, slot) not in self._taken:
            self._taken[hop, slot] = self._seats.take(wanted) or ()
        environment = pinned(wanted.cpus, self._taken[hop, slot])
        worker = WorkerProcess(number, self._parcels[hop], len(self._hops[hop].stages), environment)
        self._workers[number] = worker
        self._hop_of[number] = hop
        self._unsent.add(number)
        self._selector.register(worker.socket, selectors.EVENT_READ, (number, "socket"))
        self._selector.register(worker.output, selectors.EVENT_READ, (number, "output"))
        if worker.exit_descriptor is not None:
            self._selector.register(worker.exit_descriptor, selectors.EVENT_READ, (number, "exit"))
        return number

    def send(self, worker: int, work: Work) -> int:
        size = self._workers[worker].put(work)
        self._unsent.add(worker)
        return size

    def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._flush()
            left = None if end is None else max(0.0, end - time.monotonic())
            events: list[Event] = []
            ended: dict[int, str] = {}
            for key, _ in self._selector.select(left):
                number, source = key.data
                worker = self._workers[number]
                if number in self._blocked:
                    self._unsent.add(number)
                if source == "output":
                    worker.read_output()
                elif source == "exit":
                    ended.setdefault(number, "")
                else:
                    try:
                        events.extend(worker.receive())
                    except EOFError:
                        ended.setdefault(number, "")
                    except Exception as error:  # noqa: BLE001 (whatever a stranger's value raises)
                        ended[number] = unreadable(error)
            for number, reason in ended.items():
                events.extend(self._forget(number).died(reason))
            if events:
                return events
            if end is not None and time.monotonic() >= end:
                looks = (worker.look() for worker in self._workers.values())
                return [started for started in looks if started is not None]

    def _flush(self) -> None:
        """Send what waits; a worker that takes no more now is written to when it does."""
        unsent, self._unsent = self._unsent, set()
        for number in unsent:
            worker = self._workers.get(number)
            if worker is None:
                continue
            blocked = worker.flush()
            if blocked != (number in self._blocked):
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if blocked else 0)
                self._selector.modify(worker.socket, events, (number, "socket"))
                (self._blocked.add if blocked else self._blocked.discard)(number)

    def kill(self, worker: int) -> None:
        self._workers[worker].kill()

    def _forget(self, number: int) -> WorkerProcess:
        worker = self._workers.pop(number)
        del self._hop_of[number]
        self._unsent.discard(number)
        self._blocked.discard(number)
        for descriptor in (worker.socket, worker.output, worker.exit_descriptor):
            if descriptor is not None:
                self._selector.unregister(descriptor)
        return worker

    def close(self) -> None:
        busy = any(worker.busy for worker in self._workers.values())
        for worker in self._workers.values():
            worker.end()
        end = time.monotonic() + (BUSY_S if busy else TEARDOWN_S)
        while self._workers and (left := end - time.monotonic()) > 0:
            self.wait(left)
        for number in list(self._workers):
            self._forget(number).died()
        self._selector.close()
