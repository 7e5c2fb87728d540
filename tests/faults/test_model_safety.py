"""A checkpoint runs no code in a worker, whatever the environment says, and nothing in here asks for it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

import curate
from curate import Pipeline
from curate.executors.multiprocessing import MultiprocessingExecutor
from curate.executors.ray import RayExecutor
from curate.stages import ReadRecords
from tests.faults.faulty_stages import LoadsCheckpoint

VARIABLE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"

EXECUTORS = [MultiprocessingExecutor(), RayExecutor(runtime_env={"env_vars": {VARIABLE: "1"}})]


class Evil:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("place", EXECUTORS, indirect=True, ids=lambda executor: executor.name)
def test_no_variable_lets_a_worker_run_what_is_in_a_checkpoint(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch", reason="needs torch: make .venv/.dev-all")
    checkpoint, evil = tmp_path / "model.ckpt", tmp_path / "evil"
    torch.save(Evil(evil), checkpoint)
    monkeypatch.setenv(VARIABLE, "1")
    torch.load(checkpoint)
    evil.rmdir()  # so this is what the variable does, wherever it is not taken away

    monkeypatch.setenv("CURATE_TEST_DRIVER", str(os.getpid()))
    stage = LoadsCheckpoint(str(checkpoint)).with_(workers=1)
    result = Pipeline("careless", [ReadRecords([{"x": 1}]), stage]).run(place)

    assert [record["refused"] for record in result.records()] == [True]
    assert not evil.exists()


def test_no_code_asks_for_code_from_a_hub_or_for_pickled_weights() -> None:
    roots = [Path(curate.__file__).parent, *(Path(__file__).parents[2] / name for name in ("plugins", "pipelines"))]
    files = [path for root in roots for path in root.rglob("*") if path.suffix in (".py", ".yaml")]
    assert len(files) > 100
    asks = re.compile(
        r"trust_remote_code|weights_only\s*[=:]\s*False|torch\.load\((?!.*weights_only=True)|joblib\.load|unsafe_load"
    )
    assert [path for path in files if asks.search(path.read_text(encoding="utf-8"))] == []
