"""A real model on every executor: the demo comes to the same bytes and the same quarantine."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from curate.config import load_pipeline
from curate.executors.multiprocessing import MultiprocessingExecutor
from curate.executors.ray import RayExecutor
from curate.plugin import PluginHost

pytestmark = pytest.mark.nemo

PIPELINE = Path(__file__).resolve().parents[2] / "pipelines" / "quickstart" / "pipeline.yaml"


def results(executor: Any, folder: Path, *sets: str) -> dict[str, Any]:
    configured = load_pipeline(PIPELINE, host=PluginHost(), sets=sets, run_dir=folder)
    summary = configured.pipeline.run(executor, run_dir=folder).summary
    quarantine = [
        (note["_id"].rpartition(":")[2], note["stage"], note["code"])
        for path in (folder / "quarantine").iterdir()
        for note in map(json.loads, path.read_bytes().splitlines())
    ]
    return {
        "curated": hashlib.sha256((folder / "curated.jsonl").read_bytes()).hexdigest(),
        "quarantine": sorted(quarantine),
        "counts": [summary[name] for name in ("records_in", "kept", "filtered", "quarantined")],
    }


@cache
def expected() -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        return results("local", Path(folder))


@pytest.mark.parametrize(
    ("place", "workers", "batch_size"),
    [(MultiprocessingExecutor(), 1, 16), (MultiprocessingExecutor(), 2, 5), (RayExecutor(), 2, 16)],
    indirect=["place"],
    ids=["one process", "two processes", "ray"],
)
def test_the_demo_comes_to_the_same_bytes(place: Any, workers: int, batch_size: int, tmp_path: Path) -> None:
    sets = f"stages.asr.workers={workers}", f"stages.asr.batch_size={batch_size}"
    assert results(place, tmp_path, *sets) == expected()
    assert expected()["counts"] == [56, 44, 7, 5]
