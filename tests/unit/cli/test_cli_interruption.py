"""Ctrl-C and SIGTERM stop a run in order: finished records are kept, and the same command resumes it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from curate.cli import interruption
from curate.engine import StopRequest
from curate.errors import EXIT_TERMINATED

STAGES = """
import os, threading
from curate import InfrastructureError, processing_stage

@processing_stage(name="slow")
def slow(record: dict) -> dict:
    if record["n"] == 2 and os.environ.get("HOW") == "hang":
        print("hanging", flush=True)
        threading.Event().wait(120)
    if record["n"] == 2 and os.environ.get("HOW") == "wait":
        print("waiting", flush=True)
        open("gate").read()
    if record["n"] == 2 and os.environ.get("HOW") == "broken":
        raise InfrastructureError("the disk is full")
    return record
"""

PIPELINE = """\
stages:
  - {use: read_manifest, manifest: m.jsonl}
  - {use: partition, max_records: 1}
  - use: slow
  - {use: merge, path: out.jsonl}
"""

ADVICE = "Run the same command again to resume: finished records are kept in runs/p\n"


def start(folder: Path, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "curate.cli", "--plugins-file", "mine.py", "run", "p.yaml"],
        cwd=folder,
        env=os.environ | {"HOW": how},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    rows = [json.dumps({"audio_filepath": f"{n}.wav", "n": n}) for n in range(4)]
    (tmp_path / "m.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "mine.py").write_text(STAGES)
    (tmp_path / "p.yaml").write_text(PIPELINE)
    return tmp_path


def goes_on(project: Path, done: int = 2) -> None:
    process = start(project, "well")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert (f"resuming the run in runs/p: {done} records are finished" in err) == (done > 0)
    assert len((project / "runs/p/out.jsonl").read_text().splitlines()) == 4


@contextmanager
def hanging(project: Path, how: str = "hang") -> Iterator[subprocess.Popen[str]]:
    """Start a run and wait until its third record does not let go."""
    process = start(project, how)
    deadline = threading.Timer(60, process.kill)
    deadline.start()
    assert process.stdout is not None
    assert process.stdout.readline() in ("hanging\n", "waiting\n")
    yield process
    deadline.cancel()


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"{text!r} was not said")


def test_sigterm_stops_a_run_in_order(project: Path) -> None:
    with hanging(project) as process:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)

    assert process.returncode == 143, err
    assert f"error: terminated\n{ADVICE}" in err
    assert "Traceback" not in err
    goes_on(project)


def test_ctrl_c_finishes_what_is_in_flight(project: Path, curate: Callable[..., Any]) -> None:
    os.mkfifo(project / "gate")
    with hanging(project, "wait") as process:
        process.send_signal(signal.SIGINT)
        read_until(process, "finishing the records in flight")
        (project / "gate").write_text("go on")
        _, err = process.communicate(timeout=60)

    assert process.returncode == 130, err
    assert f"error: interrupted\n{ADVICE}" in err
    status = curate("status", str(project / "runs/p")).out
    assert status.partition("\n")[0].endswith(": interrupted"), status
    goes_on(project, done=3)


def test_ctrl_c_twice_stops_at_once_and_keeps_what_is_finished(project: Path) -> None:
    with hanging(project) as process:
        process.send_signal(signal.SIGINT)
        read_until(process, "finishing the records in flight")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)

    assert process.returncode == 130, err
    assert f"error: interrupted\n{ADVICE}" in err
    goes_on(project)


STUBBORN = """
import os, threading
from curate import processing_stage

@processing_stage(name="slow")
def slow(record: dict) -> dict:
    if record["n"] == 2 and os.environ.get("HOW") == "hang":
        said = False
        while True:
            try:
                if not said:
                    said = True
                    print("hanging", flush=True)
                threading.Event().wait(120)
            except KeyboardInterrupt:
                print("no", flush=True)
    return record
"""


def test_a_second_sigterm_leaves_at_once_even_when_a_stage_does_not_let_go(project: Path) -> None:
    (project / "mine.py").write_text(STUBBORN)
    with hanging(project) as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert process.stdout.readline() == "no\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)

    assert process.returncode == 143
    goes_on(project, done=0)  # nothing had been committed


def test_the_grace_ends_a_run_that_does_not_let_go(project: Path) -> None:
    (project / "mine.py").write_text("from curate.cli import interruption\ninterruption.GRACE_S = 0.2\n" + STUBBORN)
    with hanging(project) as process:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)

    assert process.returncode == 143
    assert "a stage has not returned for" in err


def test_trouble_of_the_machine_says_how_to_go_on(project: Path) -> None:
    process = start(project, "broken")
    _, err = process.communicate(timeout=60)

    assert process.returncode == 4, err
    assert "the disk is full" in err
    assert err.endswith(ADVICE)
    goes_on(project)


def test_sigterm_that_comes_with_the_watch_s_own_interrupt_ends_the_process_in_its_grace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signals, ended = interruption._Signals(StopRequest(), shown=True), threading.Event()
    codes: list[int] = []

    def interrupt(*_: int) -> None:
        """Let SIGTERM come first: the two wake the watch together."""
        signals._write.send(bytes([signal.SIGTERM, signal.SIGINT]))

    def leave(code: int) -> None:
        codes.append(code)
        signals._write.close()
        ended.set()

    monkeypatch.setattr(interruption, "FINISH_S", 0.0)
    monkeypatch.setattr(interruption, "GRACE_S", 0.0)
    monkeypatch.setattr(signal, "pthread_kill", interrupt)
    monkeypatch.setattr(os, "_exit", leave)
    signals._watch.start()
    signals._write.send(bytes([signal.SIGINT]))
    found = ended.wait(5)
    if not found:
        leave(0)
    signals._watch.join()
    assert codes == [EXIT_TERMINATED]
