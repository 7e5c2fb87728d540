"""Where the stages of a plan stand in the configuration file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from curate.config.diagnostics import SourceLocation
from curate.stage import CompositeStage, Stage


def places_in_plan(stages: Sequence[Stage], places: Sequence[SourceLocation]) -> dict[str, SourceLocation]:
    """Return the place of each stage by its name in the plan.

    A plan numbers equal names: the second `x` is `x-2`. The parts of a composite stage stand where it stands.

    Args:
        stages: those of the pipeline, in order.
        places: where each of them stands.
    """
    flat = [(part.name, place) for stage, place in zip(stages, places, strict=True) for part in _parts(stage)]
    taken = {name for name, _ in flat}
    found: dict[str, SourceLocation] = {}
    for name, place in flat:
        unique, count = name, 1
        while unique in found or (count > 1 and unique in taken):
            count += 1
            unique = f"{name}-{count}"
        found[unique] = place
    for stage, place in zip(stages, places, strict=True):
        found.setdefault(stage.name, place)
    return found


def _parts(stage: Stage) -> Iterator[Stage]:
    if not isinstance(stage, CompositeStage):
        yield stage
        return
    with suppress(Exception):  # one that cannot be taken apart is what the plan complains of, by its own name
        for part in stage.parts():
            yield from _parts(part)
