"""The Ray executor: it runs the pipeline on a Ray cluster, each worker in an actor, on any node with its resources.

The actor runs a worker process like those on one machine, so that the record at which it crashes is known, and a hang
can be ended. Ray places the actors and transports the messages; the scheduler alone decides about retries. The loss of
a node is not blamed on a record: its batches are sent to other workers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from curate.engine.protocol.transport import HopSpec
from curate.errors import PlanError
from curate.executors.ray_session import ClusterOptions, RaySession, import_ray
from curate.executors.ray_transport import RayTransport
from curate.executors.validators import positive, with_answers
from curate.executors.worker_payload import check_sendable
from curate.machine import Machine
from curate.plan import Hop, Plan
from curate.resource_check import check_resources
from curate.resources import parse_size


def _size(value: str | int | None) -> int | None:
    return None if value is None else parse_size(value)


def _mappings(value: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: dict(each) for name, each in value.items()}


@with_answers
@attrs.frozen
class RayExecutor:
    """Runs the pipeline on a Ray cluster.

    Args:
        address: the address of the cluster, such as `auto` or `ray://head:10001`; None: a private one on this machine,
            which ends with the run and which no other process uses.
        num_cpus: cores of the private cluster; None: those of this machine.
        num_gpus: GPUs of the private cluster; None: those of this machine.
        resources: custom resources of the private cluster, by name.
        object_store_memory: the object store of the private cluster, in bytes or as a string such as `"2GB"`.
        runtime_env: Ray's runtime environment for all workers.
        runtime_envs: stage name → the runtime environment of its workers, instead.
        init: more options of `ray.init`.
        setup_attempts: the number of workers that are tried before a `setup()` that fails stops the run.
        setup_timeout_s: the time until a worker must have found a node and be set up.
        start_timeout_s: the time that the private cluster may take to start, or another one to answer.
    """

    address: str | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None
    resources: dict[str, float] = attrs.field(factory=dict[str, float], converter=dict)
    object_store_memory: int | None = attrs.field(default=None, converter=_size)
    runtime_env: dict[str, Any] = attrs.field(factory=dict[str, Any], converter=dict)
    runtime_envs: dict[str, dict[str, Any]] = attrs.field(factory=dict[str, dict[str, Any]], converter=_mappings)
    init: dict[str, Any] = attrs.field(factory=dict[str, Any], converter=dict)
    setup_attempts: int = attrs.field(default=3, validator=positive)
    setup_timeout_s: float = attrs.field(default=1800.0, validator=positive)
    start_timeout_s: float = attrs.field(default=120.0, validator=positive)
    name: str = attrs.field(default="ray", init=False)
    _session: RaySession = attrs.field(factory=RaySession, init=False, repr=False, eq=False)

    def check(self, plan: Plan) -> None:
        ray = import_ray()
        check_sendable(plan)
        if self.address is None and not ray.is_initialized():
            here = Machine.here()
            cpus = here.cpus if self.num_cpus is None else int(self.num_cpus)
            gpus = here.gpus if self.num_gpus is None else int(self.num_gpus)
            machine = attrs.evolve(here, cpus=cpus, gpus=gpus)
            check_resources(plan, machine, executor=self.name, custom=self.resources)
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
                        "gpus; Ray assigns GPUs and not their memory: add gpus=…, as a fraction",
                        hop.stages[0].name,
                    )

    def runtime_env_of(self, hop: Hop) -> dict[str, Any]:
        """Return the runtime environment of a hop's workers.

        Raises:
            PlanError: its stages run in the same worker, but have different environments.
        """
        asked = {stage.name: self.runtime_envs.get(stage.name, self.runtime_env) for stage in hop.stages}
        first = next(iter(asked.values()), self.runtime_env)
        for name, environment in asked.items():
            if environment != first:
                raise PlanError(
                    f"stages {hop.stages[0].name!r} and {name!r} run in the same worker, because they ask for the "
                    "same resources, but have different runtime_envs; give one of them other resources",
                    name,
                )
        return first

    def open(self, hops: Sequence[HopSpec]) -> RayTransport:
        self._session.start(
            ClusterOptions(
                address=self.address,
                num_cpus=self.num_cpus,
                num_gpus=self.num_gpus,
                resources=self.resources,
                object_store_memory=self.object_store_memory,
                runtime_env=self.runtime_env,
                init=self.init,
                start_timeout_s=self.start_timeout_s,
            )
        )
        return RayTransport(
            hops,
            [self.runtime_env_of(spec.hop) for spec in hops],
            setup_attempts=self.setup_attempts,
            setup_timeout_s=self.setup_timeout_s,
        )

    def close(self) -> None:
        self._session.end()
