"""What this machine has, found out without importing torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import attrs

from curate.errors import PlanError
from curate.plan import Plan


@attrs.frozen
class Card:
    """A graphics card.

    Args:
        id: as CUDA_VISIBLE_DEVICES names it.
        memory_gb: its memory in GB; None: unknown.
    """

    id: str
    memory_gb: float | None = None


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

    def check(self, plan: Plan, *, executor: str, custom: Mapping[str, float] | None = None) -> None:
        """Check that every stage's worker fits on this machine.

        Args:
            plan: the pipeline.
            executor: its name, for messages.
            custom: the custom resources that there are.

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
            for what, amount in sorted(wanted.custom.items()):
                if custom is None:
                    raise PlanError(
                        f"stage {planned.name!r} asks for custom resources {', '.join(sorted(wanted.custom))}, which "
                        f"the {executor} executor does not know; they are for clusters",
                        planned.name,
                    )
                if amount > custom.get(what, 0.0):
                    raise PlanError(
                        f"stage {planned.name!r} asks for {what}={amount:g}, but the {executor} executor has "
                        f"{custom.get(what, 0.0):g}; give it more with resources: {{{what}: …}}",
                        planned.name,
                    )


def _count_cpus() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _count_gpus(environment: Mapping[str, str]) -> int:
    """Count NVIDIA cards as the driver lists them, less those hidden by CUDA_VISIBLE_DEVICES."""
    listed = Path("/proc/driver/nvidia/gpus")
    there = len(list(listed.iterdir())) if listed.is_dir() else 0
    visible = _visible(environment)
    return there if visible is None else min(there, len(visible))


def _visible(environment: Mapping[str, str]) -> list[str] | None:
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return None
    return [device.strip() for device in visible.split(",") if device.strip() not in ("", "-1")]


def find_cards(environment: Mapping[str, str] = os.environ) -> tuple[Card, ...]:
    """Return the cards that this process may use, with their memory where `nvidia-smi` says it."""
    count = _count_gpus(environment)
    if not count:
        return ()
    visible = _visible(environment) or [str(number) for number in range(count)]
    memory_gb = _memory_by_card()
    return tuple(Card(device, memory_gb.get(device)) for device in visible[:count])


def _memory_by_card() -> dict[str, float]:
    """Return the memory of every card in GB, under its number and under its UUID."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    query = [program, "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return {}  # the memory stays unknown
    found: dict[str, float] = {}
    for line in listed.splitlines():
        match [part.strip() for part in line.split(",")]:
            case [index, uuid, mebibytes] if mebibytes.isdigit():
                found[index] = found[uuid] = round(int(mebibytes) * 1024**2 / 1e9, 1)
            case _:  # a card that does not tell, or a word of warning
                continue
    return found
