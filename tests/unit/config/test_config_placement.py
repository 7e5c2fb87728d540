"""The places of stages, by the names that they have in a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from curate import CompositeStage, RecordStage
from curate.config.diagnostics import SourceLocation
from curate.config.stage_locations import places_in_plan
from curate.plan import make_plan
from curate.stages import ReadRecords


@dataclass
class Step(RecordStage):
    name = "step"

    def process_record(self, record):
        return record


@dataclass
class Pair(CompositeStage):
    broken: bool = False
    name = "pair"

    def decompose(self):
        if self.broken:
            raise ValueError("broken")
        return [Step(), Step().with_(name="other")]


def stages() -> list[Any]:
    return [ReadRecords([{}]), Step(), Pair(), Step().with_(name="step-2"), Step()]


def test_every_stage_of_a_plan_has_the_place_of_what_was_written() -> None:
    places = [SourceLocation("p.yaml", line, 5) for line in range(1, 6)]

    found = places_in_plan(stages(), places)

    assert {stage.name for stage in make_plan("p", stages()).stages} <= set(found)
    assert [found[stage.name].line for stage in make_plan("p", stages()).stages] == [1, 2, 3, 3, 4, 5]
    assert found["pair"].line == 3


@pytest.mark.parametrize("stage", [Pair(broken=True)])
def test_a_composite_stage_that_cannot_be_taken_apart_still_has_a_place(stage: Pair) -> None:
    assert places_in_plan([stage], [SourceLocation("p.yaml", 1, 5)]) == {"pair": SourceLocation("p.yaml", 1, 5)}
