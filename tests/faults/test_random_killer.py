"""SIGKILLs at random moments, of drivers and of workers, drawn by a seeded lot: nothing lost, nothing twice."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from tests.faults import durable
from tests.faults.durable import EXECUTORS, Life, killed, largest_unit, results, rework, run

IN_FLIGHT = 60


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, object]]:
    """Return what comes out of so many records when nobody dies."""

    @cache
    def found(count: int) -> dict[str, object]:
        folder = tmp_path_factory.mktemp("undisturbed")
        assert run("local", folder / "run", folder / "log", count=count) == 0
        return results(folder / "run")

    return found


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def hunt(executor: str, folder: Path, kills: int, count: int, longest_s: float, seed: int) -> Iterator[Path]:
    """Kill until it was done `kills` times; yield every run that came to its end all the same, with its log."""
    lot = random.Random(seed)
    done = number = lives = again = 0
    while True:
        place = folder / f"{number}"
        place.mkdir(exist_ok=True)
        life = Life(executor, place / "run", place / "log", count=count)
        lives += 1
        size = _size(place / "log")
        while done < kills and _size(place / "log") == size and lot.random() > 0.005 and not life.ended_within(0.01):
            continue  # starting takes longest, and a kill meanwhile is the least interesting
        while not life.ended_within(lot.uniform(0.0, longest_s) if done < kills else 600):
            workers = life.workers()
            victim = lot.choice(workers) if workers and lot.random() < 0.5 else life.pid
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            done += 1
            if victim == life.pid:
                break
        if killed(status := life.end()):
            continue
        assert status == 0
        assert rework(place / "log") <= lives * (IN_FLIGHT + largest_unit(place / "run"))
        again += rework(place / "log")
        yield place / "run"
        if done >= kills:
            print(f"\n{executor}: {done} kills, {number + 1} runs of {count:,} records; {again:,} done again")
            return
        number, lives = number + 1, 0


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_few_kills(executor: str, tmp_path: Path, undisturbed: Callable[[int], dict[str, object]]) -> None:
    count = 4 * durable.COUNT
    for run_dir in hunt(executor, tmp_path, kills=10, count=count, longest_s=0.3, seed=1):
        assert results(run_dir) == undisturbed(count)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("executor", EXECUTORS)
def test_two_hundred_kills_over_twenty_thousand_records(
    executor: str, tmp_path: Path, undisturbed: Callable[[int], dict[str, object]]
) -> None:
    for run_dir in hunt(executor, tmp_path, kills=200, count=20_000, longest_s=0.5, seed=2):
        assert results(run_dir) == undisturbed(20_000)
