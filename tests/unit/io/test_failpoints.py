"""Failpoints: armed by a test's entry point only, never by the environment of a user's run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from curate.errors import UsageError
from curate.io import failpoints

ROOT = Path(__file__).parents[3]

RUN = """
import sys
from curate import Pipeline
from curate.stages import Merge, ReadRecords
Pipeline("small", [ReadRecords([{"x": 1}]), Merge("out.jsonl")]).run(run_dir=sys.argv[1])
"""

ARMED = "import os\nfrom curate.io import failpoints\nfailpoints.arm(os.environ[failpoints.VARIABLE])\n"


def run(program: str, run_dir: Path, armed: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, failpoints.VARIABLE: armed, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, str(run_dir)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_variable_alone_does_nothing_to_a_run(tmp_path: Path) -> None:
    every = ",".join(f"{name}:kill" for name in failpoints.FAILPOINTS)
    done = run(RUN, tmp_path / "run", every)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "out.jsonl").read_text()


def test_armed_place_kills_the_run(tmp_path: Path) -> None:
    assert run(ARMED + RUN, tmp_path / "run", "commit.after_rename:kill").returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("specification", "because"),
    [
        ("commit.nowhere:kill", "unknown place 'commit.nowhere'"),
        ("commit.after_data:explode", "unknown action 'explode'"),
        ("commit.after_data:kill@often", "unknown action 'kill@often'"),
    ],
)
def test_unknown_place_or_action_is_a_usage_error(specification: str, because: str) -> None:
    with pytest.raises(UsageError, match=because):
        failpoints.arm(specification)


def test_refused_specification_leaves_armed_what_was(monkeypatch: pytest.MonkeyPatch) -> None:
    armed = {"commit.after_data": (lambda: None, 1)}
    monkeypatch.setattr(failpoints, "_armed", armed)
    with pytest.raises(UsageError):
        failpoints.arm("commit.after_rename:kill,commit.after_data:explode")
    assert list(armed) == ["commit.after_data"]
