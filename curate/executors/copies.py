"""Workers in this process, each with its own deep copies of the stages."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from curate.engine.protocol.transport import HopSpec
from curate.engine.worker.stage_group import StageGroupRunner
from curate.errors import PlanError
from curate.io.rows import encode_row
from curate.plan import Plan
from curate.stage import ProcessingStage


def copied_runner(spec: HopSpec) -> StageGroupRunner:
    """Return a hop's runner for one worker of this process.

    Raises:
        PlanError: names the stage and the attribute that cannot be copied.
    """
    stages = [planned.stage for planned in spec.hop.stages]
    return StageGroupRunner(
        [tried(stage, copy.deepcopy, "copied for a worker") for stage in stages],
        context=spec.context,
        encode=encode_row if spec.encodes else None,
        blamed=spec.blamed,
    )


def check_copyable(plan: Plan) -> None:
    """Check that every stage which works in a worker can be copied for one.

    Raises:
        PlanError: names the stage and the attribute that cannot be copied.
    """
    for planned in plan.stages:
        if isinstance(planned.stage, ProcessingStage):
            tried(planned.stage, copy.deepcopy, "copied for a worker")


def tried(stage: ProcessingStage, action: Callable[[Any], Any], description: str) -> Any:
    """Apply an action to a stage and return its result.

    Args:
        stage: the stage, on its way to a worker.
        action: copies or pickles a value; it may raise anything that a third-party value raises.
        description: the action as a participle, for the message.

    Raises:
        PlanError: names the stage and the attribute on which the action fails.
    """
    try:
        return action(stage)
    except Exception as error:
        for name, value in vars(stage).items():
            try:
                action(value)
            except Exception as culprit:  # noqa: BLE001 (a third-party value may raise anything)
                raise PlanError(
                    f"stage {stage.name!r}: {name} cannot be {description} ({culprit}); create it in setup()",
                    stage.name,
                ) from error
        raise PlanError(f"stage {stage.name!r} cannot be {description} ({error})", stage.name) from error
