"""Stages that order, sample and join a corpus: killed and resumed, on every executor, in bounded memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate.corpus.database import MEMORY_LIMIT_MB
from tests.faults import gathers
from tests.faults.durable import killed
from tests.faults.gathers import COUNT, make_inputs, results, start

pytest.importorskip("duckdb", reason="needs duckdb: pip install 'curate-speech[corpus]'")

PLACES = ["commit.after_rename:kill@4", "commit.after_data:kill@3", "phase.before_complete:kill@2"]
STAGES = sorted(gathers.gathers(Path(), COUNT))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gathers")
    make_inputs(folder, COUNT)
    return folder


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> dict[str, Any]:
    assert start("local", folder / "undisturbed", COUNT)[0] == 0
    return results(folder / "undisturbed")


def test_every_stage_leaves_its_trace(undisturbed: dict[str, Any], folder: Path) -> None:
    """The other tests compare with this run, so it must not be trivial."""
    rows = [json.loads(line) for line in undisturbed["out.jsonl"].splitlines()]
    stages = {stage for _, stage, _ in undisturbed["filtered"]}
    assert stages == {"deduplicate.choose", "split_dataset.assign", "takedown", "sample", "balance"}
    assert 10 < len(rows) < COUNT - 30
    assert {row["gender"] for row in rows} == {"f", "m"}
    assert {row["split"] for row in rows} >= {"train", "dev"}
    assert any(row["duplicate_of"] for row in rows)
    assert {row["rate_outlier"] for row in rows} >= {False}
    numbers = [row["n"] for row in rows]
    assert numbers != sorted(numbers)


@pytest.mark.parametrize("executor", ["multiprocessing", "ray"])
def test_bytes_are_the_same_on_every_executor(
    executor: str, folder: Path, undisturbed: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    name = executor if executor != "ray" else f"ray@{request.getfixturevalue('ray_cluster').address}"
    assert start(name, folder / executor, COUNT)[0] == 0
    assert results(folder / executor) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", "multiprocessing"])
@pytest.mark.parametrize(
    "place", ["commit.after_rename:kill@4", "commit.after_data:kill@3", "phase.before_complete:kill@2"]
)
def test_run_that_is_killed_in_every_gather_ends_with_the_same_bytes(
    executor: str, place: str, folder: Path, undisturbed: dict[str, Any]
) -> None:
    run_dir = folder / f"{executor}-{place.partition(':')[0]}"
    attempts = 0
    while killed(start(executor, run_dir, COUNT, failpoint=place)[0]):
        attempts += 1
        assert attempts < 60
    assert attempts >= len(STAGES) - 1
    assert results(run_dir) == undisturbed
    assert not (run_dir / "scratch").exists()


def peak_kb(folder: Path, count: int, stage: str) -> int:
    """Return the peak of the driver's memory in a run with one gather."""
    inputs = folder / str(count)
    inputs.mkdir()
    make_inputs(inputs, count)
    status, printed = start("multiprocessing", inputs / "run", count, stage)
    assert status == 0
    return int(printed.splitlines()[-1])


@pytest.mark.parametrize(
    ("few", "many"),
    [
        pytest.param(10_000, 100_000, marks=pytest.mark.slow),
        pytest.param(100_000, 1_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
@pytest.mark.parametrize("stage", STAGES)
def test_memory_of_the_driver_stays_within_that_of_the_database(
    stage: str, few: int, many: int, tmp_path: Path
) -> None:
    """DuckDB may use up to its bound before it writes to disk."""
    short, long = (peak_kb(tmp_path, count, stage) for count in (few, many))
    print(f"\n{stage}: {short / 1e3:.0f} MB for {few:,} records, {long / 1e3:.0f} MB for {many:,}")
    assert long <= short + 1024 * MEMORY_LIMIT_MB
