"""The multiprocessing executor: it runs the pipeline on all cores and GPUs of this machine, each worker in a process.

A worker that crashes or hangs costs the record that it was processing, and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import attrs

from curate.engine.protocol.messages import BatchTask, Event
from curate.engine.protocol.transport import HopSpec
from curate.executors.decoding import EventDecoder
from curate.executors.gpu_allocation import assign_gpus
from curate.executors.process_pool import ProcessPool
from curate.executors.validators import positive
from curate.executors.worker_payload import check_sendable, make_payload
from curate.executors.worker_process import pickled, pinned
from curate.machine import Gpu, Machine, find_gpus
from curate.plan import Plan
from curate.resource_check import check_resources


@attrs.frozen
class MultiprocessingExecutor:
    """Runs the pipeline in worker processes on this machine.

    Args:
        cpus: the cores for stages that do not set `workers`; None: those that this process may use.
        gpus: the GPUs to use, as CUDA_VISIBLE_DEVICES would list them; None: those that this process sees.
        setup_attempts: the number of workers that are tried before a `setup()` that fails stops the run.
        setup_timeout_s: the time that a `setup()` may take.
    """

    cpus: float | None = attrs.field(default=None, validator=positive)
    gpus: tuple[str, ...] | None = attrs.field(
        default=None, converter=attrs.converters.optional(lambda ids: tuple(map(str, ids)))
    )
    setup_attempts: int = attrs.field(default=3, validator=positive)
    setup_timeout_s: float = attrs.field(default=1800.0, validator=positive)
    name: str = attrs.field(default="multiprocessing", init=False)

    def check(self, plan: Plan) -> None:
        gpus = self.usable_gpus()
        check_resources(plan, attrs.evolve(Machine.here(), gpus=len(gpus)), executor=self.name)
        check_sendable(plan)
        for phase in plan.phases:
            assign_gpus(phase.hops, gpus)

    def open(self, hops: Sequence[HopSpec]) -> MultiprocessingTransport:
        return MultiprocessingTransport(hops, self)

    def close(self) -> None:
        pass

    def usable_gpus(self) -> tuple[Gpu, ...]:
        """Return the GPUs that workers may use."""
        known = find_gpus()
        if self.gpus is None:
            return known
        named = {name: [gpu for gpu in known if gpu.is_named(name)] for name in self.gpus}
        return tuple(found[0] if len(found) == 1 else Gpu(name) for name, found in named.items())


class MultiprocessingTransport:
    """The worker processes of this machine, with their cores and GPUs."""

    max_in_flight = 64
    can_kill = True

    def __init__(self, hops: Sequence[HopSpec], executor: MultiprocessingExecutor) -> None:
        self.setup_attempts = executor.setup_attempts
        self.setup_timeout_s = executor.setup_timeout_s
        machine = Machine.here()
        self._cpus = executor.cpus or machine.cpus
        self._memory = machine.memory
        self._hops = [spec.hop for spec in hops]
        self._parcels = [make_payload(spec) for spec in hops]
        assignment = assign_gpus(self._hops, executor.usable_gpus())
        self._gpus = dict(assignment.taken)
        self._allocator = assignment.allocator
        self._processes = ProcessPool()
        self._hop_of: dict[int, int] = {}
        names, hop_of = [hop.name for hop in self._hops], self._hop_of
        self._decoder = EventDecoder(lambda worker: names[hop_of[worker]], self._processes.kill)
        self._next = 0

    def room(self, hop: int) -> int:
        there = [other for number, other in self._hop_of.items() if number in self._processes]
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
            rooms.append(self._allocator.left(wanted) + (not mine))  # the first one has its GPUs already
        return max(1 - mine, min(rooms))

    def start(self, hop: int, slot: int) -> int:
        number, self._next = self._next, self._next + 1
        wanted = self._hops[hop].resources
        if (hop, slot) not in self._gpus:
            self._gpus[hop, slot] = self._allocator.take(wanted) or ()
        shares_gpu = 0 < wanted.gpus < 1 or (not wanted.gpus and wanted.gpu_memory_gb > 0)
        environment = pinned(wanted.cpus, self._gpus[hop, slot], shares_gpu=shares_gpu)
        self._processes.start(number, self._parcels[hop], environment)
        self._hop_of[number] = hop
        return number

    def send(self, worker: int, work: BatchTask) -> int:
        payload = pickled(work)
        if worker in self._processes:  # otherwise the next `wait` returns its `WorkerDied`
            self._processes.send(worker, work.number, payload)
        return len(payload)

    def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
        return list(self._decoder.events(self._processes.wait(timeout_s)))

    def kill(self, worker: int) -> None:
        self._processes.kill(worker)

    def close(self) -> None:
        deque(self._decoder.events(self._processes.close()), maxlen=0)  # what a teardown logs is logged
