"""Ctrl-C and SIGTERM stop a run in order: what is finished is kept, and the same command goes on with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

STAGES = """
import os, threading
from curate import InfrastructureError, processing_stage

@processing_stage(name="slow")
def slow(record: dict) -> dict:
    if record["n"] == 2 and os.environ.get("HOW") == "hang":
        print("hanging", flush=True)
        threading.Event().wait(120)
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

ADVICE = "The same command goes on with this run: what is finished is kept in runs/p\n"


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


def goes_on(project: Path) -> None:
    process = start(project, "well")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "going on with the run in runs/p: 2 records are done" in err
    assert len((project / "runs/p/out.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("sent", "code", "text"), [(signal.SIGTERM, 143, "error: terminated"), (signal.SIGINT, 130, "error: interrupted")]
)
def test_a_signal_stops_a_run_in_order(project: Path, sent: signal.Signals, code: int, text: str) -> None:
    process = start(project, "hang")
    deadline = threading.Timer(60, process.kill)
    deadline.start()
    assert process.stdout is not None
    assert process.stdout.readline() == "hanging\n"
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    deadline.cancel()

    assert process.returncode == code, err
    assert f"{text}\n{ADVICE}" in err
    assert "Traceback" not in err
    goes_on(project)


def test_trouble_of_the_machine_says_how_to_go_on(project: Path) -> None:
    process = start(project, "broken")
    _, err = process.communicate(timeout=60)

    assert process.returncode == 4, err
    assert "the disk is full" in err
    assert err.endswith(ADVICE)
    goes_on(project)
