"""Inputs made to hurt neither end the driver, which has 2 GB, nor keep it silent for a minute."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.faults.hostile import CASES, WITH_PROCESSES, containers, recordings

ROOT = Path(__file__).parents[2]
SILENCE_S = 60

CODES = {
    "channels.wav": {"unsupported_channels"},
    "many_channels.wav": {"unsupported_channels"},
    "no_channels.wav": {"unsupported_channels"},
    "fast.wav": {"unsupported_rate"},
    "slow.wav": {"unsupported_rate"},
    "claims.wav": {"truncated"},
    "claims.w64": {"truncated"},
    "claims.au": {"truncated"},
    "claims.caf": {"truncated"},
    "claims.aiff": {"truncated"},
    "fast.aiff": {"unsupported_rate", "truncated"},
}
"""Recordings whose code is known; that of the others is the decoder's business, but they have one."""

SOUND = {"good.wav", "negative.w64"}
"""A size below zero counts as unknown, as in a stream."""


def worked(executor: str, folder: Path, names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Work on the inputs in one process, and return what has become of each.

    Raises:
        AssertionError: the process has ended, or said nothing for a minute.
    """
    # each thread's arena reserves 64 MB of addresses, which RLIMIT_AS counts and which hold nothing
    arenas = {"MALLOC_ARENA_MAX": "2"}
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **arenas, "PYTHONPATH": paths}
    command = [sys.executable, "-m", "tests.faults.hostile", executor, str(folder), *names]
    found: dict[str, dict[str, Any]] = {}
    name, began = "", time.monotonic()
    with (
        (folder / "printed").open("w") as printed,
        subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=printed) as process,
    ):
        assert process.stdout is not None
        try:
            while True:
                ready, _, _ = select.select([process.stdout], [], [], SILENCE_S)
                assert ready, f"{name}: nothing was said for {SILENCE_S} s"
                line = process.stdout.readline().decode()
                if not line:
                    break
                if line.startswith("{"):
                    found[name] = json.loads(line)
                else:
                    name = line.strip()
        finally:
            process.kill()
    assert process.returncode == 0, (
        f"the driver ended with {process.returncode} at {name}: " + ((folder / "printed").read_text()[-3000:])
    )
    longest = sorted(found, key=lambda name: -found[name]["seconds"])[:5]
    print(f"\n{executor}: {len(found)} inputs in {time.monotonic() - began:.0f} s; the longest:")
    print("\n".join(f"  {found[each]['seconds']:5.1f} s  {each}" for each in longest))
    return found


def check(found: dict[str, dict[str, Any]]) -> None:
    for name, one in found.items():
        if one["expected"] == "codes":
            check_codes(json.loads(one["found"]), {name for name, _ in MADE[name]()})
        elif one["expected"][:1].isdigit():
            assert one["found"] == one["expected"], name
        else:
            assert one["expected"] in one["found"], name


MADE = {"recordings_that_claim": recordings, "containers_that_claim": containers}


def check_codes(codes: dict[str, str], names: set[str]) -> None:
    assert names - codes.keys() == SOUND & names
    known = {name: code for name, code in codes.items() if name in CODES}
    assert {name: code for name, code in known.items() if code not in CODES[name]} == {}
    assert not {"stage_error", "oom", "worker_died"} & set(codes.values()), codes


@pytest.mark.slow
def test_hostile_inputs_neither_end_the_driver_nor_keep_it_silent(tmp_path: Path) -> None:
    names = [name for name in CASES if name not in WITH_PROCESSES]
    found = worked("local", tmp_path, names)
    assert list(found) == names
    check(found)


@pytest.mark.slow
def test_hostile_containers_cost_their_records_alone(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV: make .venv/.dev-all")
    check(worked("multiprocessing", tmp_path, WITH_PROCESSES))


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_hostile_inputs_end_alike_with_processes(tmp_path: Path) -> None:
    check(worked("multiprocessing", tmp_path))
