"""Four GPUs that do not exist, and worker processes that record which of them they were given."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline, RecordStage, Resources
from curate.errors import PlanError
from curate.executors import multiprocessing
from curate.executors.multiprocessing import MultiprocessingExecutor
from curate.machine import Gpu
from curate.stages import Partition, ReadRecords

FOUR = ("0", "1", "2", "3")
TOLD = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "PYTORCH_CUDA_ALLOC_CONF", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def told() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in TOLD}


@dataclass
class Tells(RecordStage):
    """Writes what its worker has been given into a file, and into every record.

    Args:
        folder: of the files.
        others: the number of workers that must have begun before a record is processed; 20 s are waited at most.
    """

    folder: str
    others: int = 0

    def writes(self) -> tuple[str, ...]:
        return (self.name,)

    def setup(self) -> None:
        file = Path(self.folder) / f"{self.name}-{os.getpid()}"
        file.with_suffix(".part").write_text(json.dumps(told()))
        file.with_suffix(".part").rename(file)

    def process_record(self, record: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while len(given(Path(self.folder), self.name)) < self.others and time.monotonic() < deadline:
            os.sched_yield()
        return {**record, self.name: told()}


def given(folder: Path, stage: str) -> list[dict[str, str]]:
    """Return what the workers of a stage were given."""
    return [json.loads(path.read_text()) for path in folder.glob(f"{stage}-*") if path.suffix != ".part"]


def pipeline(folder: Path, *, others: int = 0, **asked: tuple[int | None, Resources]) -> Pipeline:
    stages = [
        Tells(str(folder), workers or others).with_(name=name, workers=workers, resources=resources)
        for name, (workers, resources) in asked.items()
    ]
    rows = [{"x": x, "duration": 1.0} for x in range(200)]
    return Pipeline("gpus", [ReadRecords(rows), Partition(max_records=5), *stages])


def test_every_worker_has_the_gpus_that_it_asks_for(tmp_path: Path) -> None:
    asked = pipeline(
        tmp_path,
        none=(2, Resources(cpus=2)),
        half=(4, Resources(gpus=0.5, cpus=0.5)),
        whole=(2, Resources(gpus=1)),
    )
    result = asked.run(MultiprocessingExecutor(gpus=FOUR))
    assert result.summary["kept"] == 200
    workers = {name: given(tmp_path, name) for name in ("none", "half", "whole")}
    gpus = {name: Counter(worker["CUDA_VISIBLE_DEVICES"] for worker in workers[name]) for name in workers}
    assert gpus["none"] == {"": 2}
    assert set(gpus["whole"].values()) == {1} and len(gpus["whole"]) == 2
    assert gpus["half"] == dict.fromkeys(set(FOUR) - set(gpus["whole"]), 2)
    assert {worker["CUDA_DEVICE_ORDER"] for name in workers for worker in workers[name]} == {"PCI_BUS_ID"}
    allocators = {name: {worker["PYTORCH_CUDA_ALLOC_CONF"] for worker in workers[name]} for name in workers}
    assert allocators == {"none": {None}, "half": {"expandable_segments:True"}, "whole": {None}}
    threads = {name: {(w["OMP_NUM_THREADS"], w["MKL_NUM_THREADS"]) for w in workers[name]} for name in workers}
    assert threads == {"none": {("2", "2")}, "half": {("1", "1")}, "whole": {("1", "1")}}
    for record in result.records():
        for name, seen in gpus.items():
            assert record[name]["CUDA_VISIBLE_DEVICES"] in seen


def test_several_gpus_and_names_of_gpus(tmp_path: Path) -> None:
    asked = pipeline(tmp_path, pair=(2, Resources(gpus=2)))
    asked.run(MultiprocessingExecutor(gpus=("GPU-a", "GPU-b", "3", "1")))
    pairs = [worker["CUDA_VISIBLE_DEVICES"].split(",") for worker in given(tmp_path, "pair")]
    assert sorted(gpu for pair in pairs for gpu in pair) == ["1", "3", "GPU-a", "GPU-b"]


def test_a_stage_that_does_not_say_gets_a_worker_for_every_gpu(tmp_path: Path) -> None:
    asked = pipeline(tmp_path, others=4, free=(None, Resources(gpus=1, cpus=0)))
    asked.run(MultiprocessingExecutor(gpus=FOUR, cpus=8))
    assert sorted(worker["CUDA_VISIBLE_DEVICES"] for worker in given(tmp_path, "free")) == list(FOUR)


def test_without_gpus_every_worker_sees_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    pipeline(tmp_path, plain=(2, Resources())).run(MultiprocessingExecutor())
    assert {worker["CUDA_VISIBLE_DEVICES"] for worker in given(tmp_path, "plain")} == {""}


def test_more_workers_than_gpus_are_refused_when_the_pipeline_is_planned(tmp_path: Path) -> None:
    asked = pipeline(tmp_path, half=(6, Resources(gpus=0.5)), whole=(2, Resources(gpus=1)))
    with pytest.raises(PlanError, match=r"stage 'half' asks for 6 workers with gpus=0.5 each, .*only 4 fit"):
        asked.plan(MultiprocessingExecutor(gpus=FOUR))


def test_more_replicas_than_the_memory_of_the_gpus_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "find_gpus", lambda: tuple(Gpu(number, 24.0) for number in FOUR))
    asked = pipeline(tmp_path, asr=(9, Resources(gpus=0.25, gpu_memory_gb=10.0)))
    with pytest.raises(PlanError, match=r"gpu_memory_gb=10 each, .*only 8 fit .*3 with 24 GB"):
        asked.plan(MultiprocessingExecutor(gpus=FOUR))
