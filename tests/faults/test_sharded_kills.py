"""Random SIGKILLs of a run that packs shards: the same set, and never a part of one under its final name."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from curate.io.provenance import PROVENANCE
from tests.faults.sharded import ROOT, numbers, published, run
from tests.faults.test_sharded_sets import COUNT, write_manifest

BROKEN = {4: "segfault", 6: "fail", 12: "segfault"}
GIVEN_UP = "died while it was set up: killed from outside by SIGKILL"
"""How a run ends when three new workers in a row are killed before they work; to be run again, like a killed one."""


def workers_of(pid: int) -> list[int]:
    try:
        return [int(each) for task in Path(f"/proc/{pid}/task").glob("*/children") for each in task.read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def check_visible(run_dir: Path) -> bool:
    """Check that what is visible is whole; return whether the set is there."""
    for description in (run_dir / "shards").rglob("*.json"):
        with suppress(FileNotFoundError):  # of an earlier assignment, which is being removed
            for suffix, file in json.loads(description.read_bytes())["files"].items():
                assert description.with_suffix(suffix).stat().st_size == file["size"]
    with suppress(FileNotFoundError, NotADirectoryError):
        files = json.loads((run_dir / "set" / PROVENANCE).read_bytes())["files"]
        sizes = {name: (run_dir / "set" / name).stat().st_size for name in files}
        assert sizes == {name: file["size"] for name, file in files.items()}
        return True
    return False


def hunt(run_dir: Path, manifest: Path, kills: int, seed: int) -> int:
    """Kill drivers and workers of one run until it has ended all the same; return how often the set was looked at."""
    lot = random.Random(seed)
    done = looks = 0
    command = [sys.executable, "-m", "tests.faults.sharded", "multiprocessing", str(run_dir), str(manifest)]
    errors = run_dir.with_suffix(".stderr")
    while True:
        with (
            errors.open("wb") as file,
            subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=file) as life,
        ):
            while life.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    life.wait(lot.uniform(0.0, 0.2))
                check_visible(run_dir)
                looks += 1
                if done < kills and (workers := workers_of(life.pid)):
                    victim = lot.choice([*workers, life.pid])
                    with suppress(ProcessLookupError):
                        os.kill(victim, signal.SIGKILL)
                    done += 1
        message = errors.read_text(errors="replace").strip().rpartition("\n")[2]
        if life.returncode == -signal.SIGKILL or (life.returncode == 1 and message.endswith(GIVEN_UP)):
            continue
        assert life.returncode == 0, message
        assert check_visible(run_dir)
        return looks


def check_kills(tmp_path: Path, runs: int, kills: int) -> None:
    manifest = write_manifest(tmp_path, BROKEN)
    assert run("multiprocessing", tmp_path / "undisturbed", manifest) == 0
    wanted = published(tmp_path / "undisturbed" / "set")
    for number in range(runs):
        run_dir = tmp_path / f"run-{number}"
        looks = hunt(run_dir, manifest, kills, seed=number)
        assert published(run_dir / "set") == wanted
        assert sorted(numbers(run_dir / "set")) == [each for each in range(COUNT) if each not in BROKEN]
        assert not list(run_dir.rglob("*.tmp-*"))
        print(f"run {number}: {kills} kills, looked at {looks} times")


def test_a_set_is_the_same_after_random_kills_and_never_visible_in_part(tmp_path: Path) -> None:
    check_kills(tmp_path, runs=1, kills=5)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_set_is_the_same_after_a_hundred_random_kills(tmp_path: Path) -> None:
    check_kills(tmp_path, runs=10, kills=10)
