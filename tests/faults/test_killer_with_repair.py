"""SIGKILLs of drivers, workers, repairs and nodes, with damage in between, drawn by a seeded lot: the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import processes_left, worker_processes
from tests.faults import durable, wide
from tests.faults.durable import EXECUTORS, Life, killed, rework

COUNT = 240
IN_FLIGHT = 80


class Process:
    """A life in a fresh process, for what must not be forked."""

    def __init__(self, arguments: list[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": str(durable.ROOT)}
        command = [sys.executable, "-m", "tests.faults.wide", *arguments]
        with Path(arguments[1]).with_name("printed").open("ab") as printed:
            self._process = subprocess.Popen(command, env=environment, cwd=durable.ROOT, stdout=printed, stderr=printed)
        self.pid = self._process.pid

    def ended_within(self, seconds: float) -> bool:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
            return True
        return False

    def end(self) -> int:
        return self._process.wait()

    def workers(self) -> list[int]:
        return [int(worker.partition(":")[0]) for worker in worker_processes()]


class Hunt:
    """Kills and damages until it was done often enough.

    Args:
        executor: the executor, `ray@ADDRESS` for Ray.
        folder: a folder with the input of the pipeline.
        kills: the number of kills.
        longest_s: the longest time between two.
        cluster: Ray's cluster, of which a node is killed now and then.
    """

    def __init__(
        self, executor: str, folder: Path, kills: int, longest_s: float, seed: int, count: int, cluster: Any = None
    ) -> None:
        self._executor, self._folder, self._kills, self._longest_s = executor, folder, kills, longest_s
        self._lot = random.Random(seed)
        self._count = count
        self._cluster = cluster
        self._node: Any = None
        self._early = 0.005 if cluster is None else 0.0003
        """The probability, at each look, of a kill before any work: a life on Ray takes many seconds to start."""
        self.done: Counter[str] = Counter()
        self.damage: list[str] = []

    def runs(self) -> Iterator[Path]:
        """Yield each run that came to its end."""
        number = 0
        while True:
            place = self._folder / f"{number}"
            place.mkdir()
            before = len(self.damage)
            lives = self._to_its_end(place)
            at_most = lives * (IN_FLIGHT + durable.largest_unit(place / "run"))
            at_most += (len(self.damage) - before) * durable.largest_unit(place / "run")
            assert rework(place / "log") <= at_most
            yield place / "run"
            # A quick machine may be killed before there is anything to damage: then further runs are.
            if self.done.total() >= self._kills and (self.damage or number >= 20):
                print(
                    f"\n{self._executor.partition('@')[0]}: killed {dict(self.done)}, damaged {len(self.damage)} files,"
                )
                print(f"{number + 1} runs of {self._count} records; " + "; ".join(self.damage))
                return
            number += 1

    def _to_its_end(self, place: Path) -> int:
        lives = 0
        while True:
            lives += 1
            life = self._begin(place)
            self._hunt(life, place / "log")
            if not killed(status := life.end()):
                printed = place / "printed"
                assert status == 0, printed.read_text()[-3000:] if printed.exists() else ""
                return lives
            lives += self._damage_and_repair(place / "run")

    def _begin(self, place: Path) -> Any:
        run_dir, log = place / "run", place / "log"
        if not self._executor.startswith("ray@"):
            return Life(self._executor, run_dir, log, "", self._count, module="tests.faults.wide")
        assert processes_left() == []
        if self._cluster is not None and self._node is None:
            self._node = self._cluster.add_node(num_cpus=8, num_gpus=0, object_store_memory=100_000_000)
        return Process([self._executor, str(run_dir), str(log), str(self._count)])

    def _hunt(self, life: Any, log: Path) -> None:
        size = _size(log)
        while (
            self._wanted() and _size(log) == size and self._lot.random() > self._early and not life.ended_within(0.01)
        ):
            continue  # starting takes longest, and a kill meanwhile is the least interesting
        while not life.ended_within(self._lot.uniform(0.0, self._longest_s) if self._wanted() else 600):
            workers = life.workers()
            drawn = self._lot.random()
            if drawn < 0.4 and self._node_works(workers):
                self._cluster.remove_node(self._node, allow_graceful=False)
                self._node = None
                self.done["node"] += 1
                continue
            victim = self._lot.choice(workers) if workers and drawn < 0.5 else life.pid
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            self.done["driver" if victim == life.pid else "worker"] += 1
            if victim == life.pid:
                return

    def _damage_and_repair(self, run_dir: Path) -> int:
        """Damage files, and repair them although the repair is killed; return how many records' units that costs."""
        found = [what for _ in range(self._lot.choice((1, 1, 2))) if (what := wide.damage(run_dir, self._lot))]
        self.damage += found
        while found:
            life = Life("repair", run_dir, run_dir, module="tests.faults.wide")
            of_repairs = 0.5 if self._cluster is None else 0.15
            kill = self._wanted() and self._lot.random() < of_repairs
            if kill and not life.ended_within(self._lot.uniform(0.0, 0.03)):
                with suppress(ProcessLookupError):
                    os.kill(life.pid, signal.SIGKILL)
                self.done["repair"] += 1
            status = life.end()
            if not killed(status):
                assert status == 0
                break
        return 0

    def _node_works(self, workers: list[int]) -> bool:
        """Return whether a worker is on the node that may be killed."""
        return self._node is not None and any(self._node.node_id in _environment(worker) for worker in workers)

    def _wanted(self) -> bool:
        return self.done.total() < self._kills


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _environment(process: int) -> str:
    try:
        return Path(f"/proc/{process}/environ").read_text(errors="replace")
    except OSError:  # it has ended
        return ""


@pytest.fixture
def undisturbed(tmp_path: Path) -> dict[str, Any]:
    """Write the input, and return what comes out when nothing happens."""
    wide.write_input(tmp_path, COUNT)
    place = tmp_path / "undisturbed"
    place.mkdir()
    life = Life("local", place / "run", place / "log", "", COUNT, module="tests.faults.wide")
    assert life.end() == 0
    return wide.results(place / "run")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_few_kills_with_damage_and_repair(executor: str, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    kills, longest_s = (6, 0.2) if executor == "local" else (3, 0.8)
    hunt = Hunt(executor, tmp_path, kills=kills, longest_s=longest_s, seed=5, count=COUNT)
    for run_dir in hunt.runs():
        assert wide.results(run_dir) == undisturbed
    assert hunt.damage


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("executor", EXECUTORS)
def test_sixty_kills_with_damage_and_repair(executor: str, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    for run_dir in Hunt(executor, tmp_path, kills=60, longest_s=0.4, seed=6, count=COUNT).runs():
        assert wide.results(run_dir) == undisturbed


def hunt_on_ray(cluster: Any, tmp_path: Path, undisturbed: dict[str, Any], *, kills: int, seed: int) -> Counter[str]:
    executor = f"ray@{cluster.address}"
    hunt = Hunt(executor, tmp_path, kills=kills, longest_s=1.0, seed=seed, count=COUNT, cluster=cluster)
    for run_dir in hunt.runs():
        assert wide.results(run_dir) == undisturbed
    return hunt.done


@pytest.mark.slow
def test_a_few_kills_on_ray(ray_cluster: Any, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    assert hunt_on_ray(ray_cluster, tmp_path, undisturbed, kills=3, seed=8).total() == 3


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_sixty_kills_on_ray_with_nodes_among_them(
    ray_cluster: Any, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    done = hunt_on_ray(ray_cluster, tmp_path, undisturbed, kills=60, seed=9)
    assert done["node"]
