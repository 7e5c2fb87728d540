"""A mixture of inputs: killed and resumed, on every executor, and with a thousand partitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.durable import killed
from tests.faults.mixtures import make_inputs, start


def results(run_dir: Path) -> tuple[bytes, Any]:
    summary = json.loads((run_dir / "summary.json").read_bytes())
    return (run_dir / "out.jsonl").read_bytes(), summary["by_stage"]["mix"]["performance"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixtures")
    make_inputs(folder / "inputs", 5, 150)
    return folder


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> tuple[bytes, Any]:
    assert start("local", folder / "inputs", folder / "undisturbed")[0] == 0
    return results(folder / "undisturbed")


def test_killed_mixture_ends_with_the_same_bytes(folder: Path, undisturbed: tuple[bytes, Any]) -> None:
    attempts = 0
    while killed(start("multiprocessing", folder / "inputs", folder / "killed", "commit.after_rename:kill@6")[0]):
        attempts += 1
        assert attempts < 30
    assert attempts >= 2
    assert results(folder / "killed") == undisturbed
    assert any(row["passes"] > 1 for row in undisturbed[1]["partitions"].values())


def test_mixture_has_the_same_bytes_on_ray(folder: Path, undisturbed: tuple[bytes, Any], ray_cluster: Any) -> None:
    assert start(f"ray@{ray_cluster.address}", folder / "inputs", folder / "ray")[0] == 0
    assert results(folder / "ray") == undisturbed


@pytest.mark.slow
def test_thousand_partitions_are_mixed_in_bounded_memory(tmp_path: Path) -> None:
    make_inputs(tmp_path / "inputs", 1000, 100)
    status, printed = start("local", tmp_path / "inputs", tmp_path / "run")
    assert status == 0
    peak_mb = int(printed.splitlines()[-1]) / 1024
    print(f"\n1,000 partitions: {peak_mb:.0f} MB")
    assert peak_mb <= 300
    shares = [row["share"] for row in results(tmp_path / "run")[1]["partitions"].values()]
    assert len(shares) == 1000 and sum(shares) == pytest.approx(1, abs=1e-3)
