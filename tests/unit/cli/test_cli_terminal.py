"""What a person sees on a real terminal, on every executor: the same display, and at the end the summary's numbers."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from curate.plugin import PluginHost

ROOT = Path(__file__).parents[3]
RECORDS = 400

STAGES = """
import time
from curate import RecordError, processing_stage

@processing_stage(name="square", reads=["n"], writes=["squared"])
def square(record: dict) -> dict:
    if record["n"] % 50 == 7:
        raise RecordError("bad_value", "seven")
    time.sleep(0.001)  # so that there is something to see
    record["squared"] = record["n"] ** 2
    return record
"""

PIPELINE = """
name: squares
stages:
  - {use: read_manifest, manifest: numbers.jsonl}
  - {use: partition, max_records: 50}
  - {use: square}
  - {use: quality_filter, expression: squared % 2 == 0}
  - {use: merge, path: squares.jsonl}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "stages.py").write_text(STAGES)
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    rows = (json.dumps({"n": number, "duration": 1.5}) for number in range(RECORDS))
    (tmp_path / "numbers.jsonl").write_text("\n".join(rows) + "\n")
    return tmp_path


def command(*options: str, verb: tuple[str, ...] = ()) -> list[str]:
    curate = [sys.executable, "-m", "curate.cli", "--plugins-file", "stages.py", *options]
    return [*curate, "run", "pipeline.yaml", "--run-dir", "run", "--no-report", *verb]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "110", "LINES": "40"}


def on_a_terminal(words: list[str], cwd: Path) -> tuple[int, str]:
    """Run a command with all its streams on a pseudo-terminal; return its exit code and what was shown."""
    leader, follower = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:  # the other side is closed
                return
            if not part:
                return
            shown.append(part)

    reader = threading.Thread(target=read)
    process = subprocess.Popen(words, cwd=cwd, env=environment(), stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    reader.start()
    code = process.wait(timeout=240)
    reader.join(timeout=30)
    os.close(leader)
    return code, b"".join(shown).decode()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


EXECUTORS = [name for name in ("local", "multiprocessing", "ray") if name in {r.name for r in PluginHost().executors}]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_the_display_is_the_same_on_every_executor_and_ends_with_the_summary(project: Path, executor: str) -> None:
    code, shown = on_a_terminal(command(verb=("--executor", executor)), project)
    text = plain(shown)
    assert code == 0, text
    assert "\x1b[?25l" in shown  # the display was alive: it hides the cursor
    assert re.search(r"phase 0: [\d,]+ of 400 records", text)
    assert re.search(r"square +━+ +[\d,]+ +[\d,.]+ records/s", text)
    summary = json.loads((project / "run" / "summary.json").read_text())
    assert (summary["records_in"], summary["kept"], summary["filtered"], summary["quarantined"]) == (400, 200, 192, 8)
    assert "400 records in, 200 kept, 192 filtered, 8 quarantined" in text


@pytest.mark.parametrize("executor", EXECUTORS)
def test_without_a_terminal_there_are_lines_with_the_same_numbers(project: Path, executor: str) -> None:
    words = command("--log-format", "json", verb=("--executor", executor))
    done = subprocess.run(words, cwd=project, env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    ended = next(line for line in lines if line.get("event") == "phase_ended")
    over = next(line for line in lines if line.get("event") == "run_finished")
    summary = json.loads((project / "run" / "summary.json").read_text())
    for name in ("records_in", "kept", "filtered", "quarantined"):
        assert ended[name] == over[name] == summary[name]
    assert ended["audio_hours"] == pytest.approx(summary["audio_hours"]["in"], abs=1e-6)
    assert ended["came"]["square"] == summary["by_stage"]["square"]["records_in"]


def test_quiet_shows_results_and_nothing_else(project: Path) -> None:
    code, shown = on_a_terminal(command("--quiet"), project)
    assert code == 0
    assert "phase" not in shown
    assert "\x1b[?25l" not in shown
    assert "quality_filter" in plain(shown)


def test_log_lines_are_objects_with_the_fields_of_their_event(project: Path) -> None:
    words = command("--log-format", "json", "--log-level", "debug")
    done = subprocess.run(words, cwd=project, env=environment(), capture_output=True, text=True, timeout=240)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert all({"time", "level", "message"} <= line.keys() for line in lines)
    quarantined = [line for line in lines if line.get("code") == "bad_value"]
    assert len(quarantined) == 8
    assert quarantined[0]["stage"] == "square"
