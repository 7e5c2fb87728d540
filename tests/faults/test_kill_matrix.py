"""SIGKILL at every place that has a name: the next life finishes the run, with the same bytes and little rework."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curate.io.failpoints import FAILPOINTS
from tests.conftest import processes_left
from tests.faults import durable
from tests.faults.durable import EXECUTORS, killed, largest_unit, results, rework, run

IN_FLIGHT = {"local": durable.BATCH, "shuffled": 3 * 2 * durable.BATCH}
"""So many records of one stage are with workers at most; elsewhere two workers have two batches each."""

DRIVER = [name for name in FAILPOINTS if name.startswith(("commit.", "phase.", "summary."))]
SINK = [name for name in FAILPOINTS if name.startswith("publish.")]
SECOND = {"commit.before_write", "commit.after_temporary", "commit.after_data", "commit.after_rename"}
ONCE = [f"{name}:kill" for name in (*DRIVER, *SINK)]
PLACES = [
    *ONCE,
    *(f"{name}:kill@9" for name in DRIVER if name in SECOND),  # in the midst of the first phase
    *(f"{name}:kill@2" for name in SINK),  # between two files
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run("local", folder / "run", folder / "log") == 0
    assert rework(folder / "log") == 0
    return results(folder / "run")


@pytest.mark.parametrize(
    ("executor", "place"), [(name, place) for name in EXECUTORS for place in (PLACES if name == "local" else ONCE)]
)
def test_the_driver_is_killed(executor: str, place: str, tmp_path: Path, undisturbed: dict[str, object]) -> None:
    run_dir, log = tmp_path / "run", tmp_path / "log"
    assert killed(run(executor, run_dir, log, place))
    published = [name for name in durable.OUTPUTS if (run_dir / name).exists()]
    assert all((run_dir / name).read_bytes() == undisturbed[name] for name in published)  # never half a file

    assert run(executor, run_dir, log) == 0

    assert results(run_dir) == undisturbed
    assert rework(log) <= IN_FLIGHT.get(executor, 2 * 2 * durable.BATCH) + largest_unit(run_dir)
    assert not [path for path in run_dir.rglob("*") if ".tmp-" in path.name]


@pytest.mark.parametrize("executor", [name for name in EXECUTORS if name == "multiprocessing"])
@pytest.mark.parametrize("place", [*sorted(SECOND), "publish.during"])
def test_a_worker_is_killed(executor: str, place: str, tmp_path: Path, undisturbed: dict[str, object]) -> None:
    run_dir, log = tmp_path / "run", tmp_path / "log"
    assert run(executor, run_dir, log, f"{place}:kill_child") == 0  # the run goes on without it
    assert results(run_dir) == undisturbed
    assert rework(log) <= 2 * durable.BATCH  # what that worker had


@pytest.mark.parametrize("executor", ["shuffled", *EXECUTORS[1:]])
def test_it_dies_in_every_life(executor: str, tmp_path: Path, undisturbed: dict[str, object]) -> None:
    run_dir, log = tmp_path / "run", tmp_path / "log"
    lives = 0
    for place in PLACES:
        lives += killed(run(executor, run_dir, log, place))
    assert run(executor, run_dir, log) == 0
    assert results(run_dir) == undisturbed
    assert rework(log) <= lives * (IN_FLIGHT.get(executor, 2 * 2 * durable.BATCH) + largest_unit(run_dir))


def test_executors_may_change_between_lives(tmp_path: Path, undisturbed: dict[str, object]) -> None:
    run_dir, log = tmp_path / "run", tmp_path / "log"
    for number in range(6):
        executor = ("shuffled", *EXECUTORS)[number % (1 + len(EXECUTORS))]
        assert killed(run(executor, run_dir, log, "commit.after_rename:kill@3"))
    assert run(EXECUTORS[-1], run_dir, log) == 0
    assert results(run_dir) == undisturbed


def test_on_ray_it_dies_in_every_life_and_workers_die_as_well(
    ray_cluster: Any, tmp_path: Path, undisturbed: dict[str, object]
) -> None:
    run_dir, log = tmp_path / "run", tmp_path / "log"
    executor = f"ray@{ray_cluster.address}"
    places = [
        "commit.after_data:kill@2",
        "commit.after_rename:kill@3",
        "commit.after_data:kill_child@2,commit.after_rename:kill_child@4,publish.during:kill",
    ]
    for place in places:
        assert killed(run(executor, run_dir, log, place))
        assert processes_left() == []
    workers = (tmp_path / "log.killed").read_text().splitlines()
    assert len(workers) == len(set(workers)) == 2
    assert run(executor, run_dir, log) == 0
    assert results(run_dir) == undisturbed
    bound = len(places) * (2 * 2 * durable.BATCH + largest_unit(run_dir)) + len(workers) * 2 * durable.BATCH
    print(
        f"\nray: {len(places)} drivers and {len(workers)} workers killed; {rework(log)} of at most {bound} done again"
    )
    assert rework(log) <= bound
    assert not [path for path in run_dir.rglob("*") if ".tmp-" in path.name]
    assert processes_left() == []


def test_a_run_moves_from_local_to_multiprocessing_to_ray(
    ray_cluster: Any, tmp_path: Path, undisturbed: dict[str, object]
) -> None:
    run_dir, log = tmp_path / "run", tmp_path / "log"
    assert killed(run("local", run_dir, log, "commit.after_rename:kill@3"))
    assert killed(run("multiprocessing", run_dir, log, "commit.after_data:kill@3"))
    assert run(f"ray@{ray_cluster.address}", run_dir, log) == 0
    assert results(run_dir) == undisturbed
    assert rework(log) <= 2 * (2 * 2 * durable.BATCH + largest_unit(run_dir))
