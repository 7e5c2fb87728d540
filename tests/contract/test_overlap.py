"""Stages of equal resources overlap when one of them has workers of its own: `.with_(fuse=False)`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from curate import Pipeline
from curate.executors.multiprocessing import MultiprocessingExecutor
from curate.stages import Partition, ReadRecords
from tests.contract.overlapping_stages import Meets

COUNT = 6


def pipeline(folder: Path, *, fuse: bool) -> Pipeline:
    for number in range(1, COUNT):
        os.mkfifo(folder / str(number))
    first = Meets(str(folder), is_first=True).with_(name="first", workers=1, timeout_s=20)
    second = Meets(str(folder), is_first=False).with_(name="second", workers=1, timeout_s=20, fuse=fuse)
    records = [{"number": number} for number in range(COUNT)]
    return Pipeline("overlap", [ReadRecords(records), Partition(max_records=1), first, second])


@pytest.mark.timeout(120)
def test_a_stage_with_workers_of_its_own_works_while_its_neighbour_works_on_the_next_record(tmp_path: Path) -> None:
    """Each record of the first stage waits for the second stage to be at the record before, so both are at work."""
    overlapping = pipeline(tmp_path, fuse=False)
    assert [len(hop.stages) for hop in overlapping.plan().phases[0].hops] == [1, 1]
    result = overlapping.run(MultiprocessingExecutor(cpus=2))
    assert result.summary["kept"] == COUNT, result.summary["failures"]


def test_fused_stages_take_turns(tmp_path: Path) -> None:
    assert [len(hop.stages) for hop in pipeline(tmp_path, fuse=True).plan().phases[0].hops] == [2]


@pytest.mark.parametrize("name", ["pipeline_parallel", "async_processing"])
def test_the_answer_to_a_switch_of_another_framework_names_what_overlaps_stages(tmp_path: Path, name: str) -> None:
    stage = Meets(str(tmp_path), is_first=True)
    with pytest.raises(TypeError, match=r"\.with_\(fuse=False\)` to give a stage a group of its own") as caught:
        stage.with_(**{name: True})
    assert "stage groups always overlap" in str(caught.value)
    assert stage.with_(fuse=False).fuse is False
