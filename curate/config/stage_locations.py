"""Where the stages of a plan stand in the configuration file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from curate.composite import leaves, named, unique_names
from curate.config.diagnostics import SourceLocation
from curate.stage import Stage


def places_in_plan(stages: Sequence[Stage], places: Sequence[SourceLocation]) -> dict[str, SourceLocation]:
    """Return the place of each stage by its name in the plan. The parts of a composite stage stand where it stands.

    Args:
        stages: those of the pipeline, in order.
        places: where each of them stands.
    """
    composed = list(zip(named(stages), places, strict=True))
    flat: list[tuple[str, SourceLocation]] = []
    for stage, place in composed:
        with suppress(Exception):  # the plan reports a composite that cannot be decomposed, by its own name
            flat += [(part.name, place) for part in leaves(stage)]
    names = unique_names([name for name, _ in flat])
    return {stage.name: place for stage, place in composed} | {
        name: place for name, (_, place) in zip(names, flat, strict=True)
    }
