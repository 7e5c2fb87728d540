"""The garbage collector during and after the set-up of stages, and at the end of the command."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from curate import Pipeline, RecordStage
from curate.engine.worker.stage_group import StageGroupRunner
from curate.errors import InfrastructureError
from curate.records import Record
from curate.stage import WorkerContext
from curate.stages import ReadRecords

RARE = 100_000


@pytest.fixture(autouse=True)
def own_threshold() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@dataclass
class WritesThresholds(RecordStage):
    """Writes the collector's thresholds of its set-up and of its work into each record."""

    in_setup: list[int] = field(default_factory=list[int])
    name: str = "thresholds"

    def reads(self) -> tuple[str, ...]:
        return ()

    def writes(self) -> tuple[str, ...]:
        return ("in_setup", "at_work")

    def setup(self) -> None:
        self.in_setup = list(gc.get_threshold())

    def process_record(self, record: Record) -> Record:
        return {**record, "in_setup": self.in_setup, "at_work": list(gc.get_threshold())}


@pytest.mark.parametrize("executor", ["local", pytest.param("multiprocessing", marks=pytest.mark.processes)])
def test_collections_are_rare_in_a_setup_and_as_before_at_work(executor: str) -> None:
    usual = list(gc.get_threshold())
    result = Pipeline("p", [ReadRecords([{"x": 1}]), WritesThresholds()]).run(executor)
    (record,) = result.records()
    assert record["in_setup"] == [RARE, *usual[1:]]
    assert record["at_work"] == usual == list(gc.get_threshold())


@pytest.mark.parametrize(("first", "expected"), [(700, RARE), (10**6, 10**6), (0, 0)])
def test_threshold_is_never_lowered_and_restored_after_an_error(first: int, expected: int) -> None:
    class Broken(WritesThresholds):
        def setup(self) -> None:
            super().setup()
            raise ValueError("no model")

    gc.set_threshold(first, 11, 12)
    before = gc.get_threshold()
    stage = Broken()
    with pytest.raises(InfrastructureError, match="no model"):
        StageGroupRunner([stage], context=WorkerContext()).setup()
    assert stage.in_setup[0] == expected
    assert gc.get_threshold() == before


def test_command_that_ends_leaves_nothing_to_collect() -> None:
    def frozen_after(call: str) -> int:
        code = f"import gc, sys; sys.argv = ['curate', '--version']; from curate.cli import main; {call}"
        code += "; print(gc.get_freeze_count())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return int(done.stdout.splitlines()[-1])

    assert frozen_after("main()") > 1000
    assert frozen_after("main(['--version'])") == 0  # the caller's process lives on
