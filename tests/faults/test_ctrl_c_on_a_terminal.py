"""Ctrl-C on a terminal, at every moment of a run: it ends soon, says so, leaves a clean terminal, and is resumed."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from curate.cli.interruption import STOPPING

ROOT = Path(__file__).parents[2]
COUNT = 400
MOMENTS = ("import", "setup", "batch", "merge", "report")

STAGES = """
import os, sys, time
from dataclasses import dataclass
from pathlib import Path

HERE = Path({folder!r})


def arrive(moment):
    if (HERE / "moment").read_text() == moment:
        (HERE / "arrived").touch()
        time.sleep(60)


arrive("import")

import curate.report
from curate import RecordStage
from curate.stages import Merge

write_report = curate.report.write_report


def slow_report(*arguments, **options):
    arrive("report")
    return write_report(*arguments, **options)


curate.report.write_report = slow_report


@dataclass
class Slow(RecordStage):
    tuning = frozenset()

    def setup(self):
        arrive("setup")

    def process_record(self, record):
        if (HERE / "moment").read_text() == "batch":
            (HERE / "arrived").touch()
            time.sleep(0.1)
        return record


@dataclass
class SlowMerge(Merge):
    def write(self, records, directory):
        arrive("merge")
        return super().write(records, directory)
"""

PIPELINE = """
name: p
stages:
  - {use: read_manifest, manifest: in.jsonl}
  - {use: "slow_stages:Slow"}
  - {use: "slow_stages:SlowMerge", path: out.jsonl}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "slow_stages.py").write_text(STAGES.replace("{folder!r}", repr(str(tmp_path))))
    (tmp_path / "in.jsonl").write_text("".join(f'{{"n": {n}, "duration": 1.0}}\n' for n in range(COUNT)))
    (tmp_path / "p.yaml").write_text(PIPELINE)
    (tmp_path / "moment").write_text("none")
    return tmp_path


def command(executor: str) -> list[str]:
    words = ["run", "p.yaml", "--run-dir", "run", "--executor", executor, "--allow-imports"]
    return [sys.executable, "-m", "curate.cli", *words]


def environment(project: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    path = os.pathsep.join([str(project), os.environ.get("PYTHONPATH", ""), str(ROOT)])
    return {**kept, "PYTHONPATH": path, "TERM": "xterm-256color", "COLUMNS": "110", "LINES": "40"}


class Terminal:
    """A command with a pseudo-terminal of its own."""

    def __init__(self, words: list[str], project: Path) -> None:
        self._leader, follower = pty.openpty()
        self._shown: list[bytes] = []
        self.process: Any = subprocess.Popen(
            words,
            cwd=project,
            env=environment(project),
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(follower)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._leader, 65536)
            except OSError:  # the other side is closed
                return
            if not part:
                return
            self._shown.append(part)

    def press_ctrl_c(self) -> None:
        os.write(self._leader, b"\x03")

    def end(self) -> tuple[int, str]:
        """Wait for the end, and return the exit code and what was shown."""
        code = self.process.wait(timeout=60)
        self._reader.join(timeout=30)
        os.close(self._leader)
        return code, b"".join(self._shown).decode()


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("executor", ["local", "multiprocessing", pytest.param("ray", marks=pytest.mark.soak)])
def test_ctrl_c_ends_a_run_soon_with_a_sentence_and_a_clean_terminal(executor: str, moment: str, project: Path) -> None:
    (project / "moment").write_text(moment)
    terminal = Terminal(command(executor), project)
    deadline = time.monotonic() + 120
    while not (project / "arrived").exists():
        assert time.monotonic() < deadline and terminal.process.poll() is None, terminal.end()
        time.sleep(0.02)
    pressed = time.monotonic()
    terminal.press_ctrl_c()
    code, shown = terminal.end()
    took_s = time.monotonic() - pressed
    print(f"{executor}, {moment}: {took_s:.1f} s")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert code == 130, text
    assert "Traceback" not in text
    assert "error: interrupted" in text
    if moment in ("setup", "batch", "merge"):  # the run has begun, and says what it does now, and how to resume
        assert STOPPING in text
        assert "Run the same command again to resume" in text
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")  # the cursor is there again
    assert took_s <= 5 or os.getloadavg()[0] > (os.cpu_count() or 1) * 1.5, text
    assert took_s <= 15, text

    (project / "moment").write_text("none")
    done = subprocess.run(command(executor), cwd=project, env=environment(project), capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line)["n"] for line in (project / "run" / "out.jsonl").read_text().splitlines()]
    assert rows == list(range(COUNT))
