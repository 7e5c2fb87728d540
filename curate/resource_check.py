"""Checks at plan time that every stage's worker fits on the machine that is there."""

from __future__ import annotations

from collections.abc import Mapping

from curate.errors import PlanError
from curate.machine import Machine
from curate.plan import Plan


def check_resources(plan: Plan, machine: Machine, *, executor: str, custom: Mapping[str, float] | None = None) -> None:
    """Check that every stage's worker fits on a machine.

    Args:
        plan: the pipeline.
        machine: what there is.
        executor: its name, for messages.
        custom: the custom resources that there are; None: this executor has none.

    Raises:
        PlanError: names the stage, what it asks for, and what there is.
    """
    for planned in plan.stages:
        wanted = planned.stage.resources
        for what, amount, there in (
            ("gpus", wanted.gpus, machine.gpus),
            ("cpus", wanted.cpus, machine.cpus),
            ("memory", wanted.memory or 0, machine.memory),
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
