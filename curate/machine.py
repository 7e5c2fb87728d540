"""What this machine has, found out without importing torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import attrs

from curate.errors import PlanError
from curate.plan import Plan


@attrs.frozen
class Machine:
    """Cores, cards and memory of a machine.

    Args:
        cpus: cores that this process may use.
        gpus: cards that this process may use.
        memory: main memory in bytes.
    """

    cpus: int
    gpus: int
    memory: int

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> Machine:
        """Return what this process may use."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return cls(cpus=_count_cpus(), gpus=_count_gpus(environment), memory=memory)

    def check(self, plan: Plan, *, executor: str) -> None:
        """Check that every stage's worker fits on this machine.

        Raises:
            PlanError: the stage, what it asks for, and what there is.
        """
        for planned in plan.stages:
            wanted = planned.stage.resources
            for what, amount, there in (
                ("gpus", wanted.gpus, self.gpus),
                ("cpus", wanted.cpus, self.cpus),
                ("memory", wanted.memory or 0, self.memory),
            ):
                if amount > there:
                    raise PlanError(
                        f"stage {planned.name!r} asks for {what}={amount:g}, but this machine has {there:g}; "
                        f"change it with .with_(resources=Resources({what}=…)) or --set stages.{planned.name}."
                        f"resources.{what}=…",
                        planned.name,
                    )
            if wanted.custom:
                raise PlanError(
                    f"stage {planned.name!r} asks for custom resources {', '.join(sorted(wanted.custom))}, which the "
                    f"{executor} executor does not know; they are for clusters",
                    planned.name,
                )


def _count_cpus() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _count_gpus(environment: Mapping[str, str]) -> int:
    """Count NVIDIA cards as the driver lists them, less those hidden by CUDA_VISIBLE_DEVICES."""
    listed = Path("/proc/driver/nvidia/gpus")
    there = len(list(listed.iterdir())) if listed.is_dir() else 0
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return there
    chosen = [device for device in visible.split(",") if device.strip() not in ("", "-1")]
    return min(there, len(chosen))
