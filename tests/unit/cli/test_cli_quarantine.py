"""`curate quarantine` and `curate status`: what failed and why, another try, and how a run is doing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

STAGES = """
from pathlib import Path
from curate import processing_stage

@processing_stage(name="measure", writes=["size"])
def measure(record: dict) -> dict:
    return {**record, "size": len(Path(record["audio_filepath"]).read_bytes())}
"""

PIPELINE = """\
stages:
  - {use: read_manifest, manifest: m.jsonl}
  - use: measure
  - {use: merge, path: out.jsonl}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [json.dumps({"audio_filepath": f"{n}.wav", "n": n}) for n in range(6)]
    (tmp_path / "m.jsonl").write_text("\n".join(rows) + "\nbroken\n")
    for number in (0, 1, 3, 4):
        (tmp_path / f"{number}.wav").write_bytes(b"x" * number)
    (tmp_path / "mine.py").write_text(STAGES)
    (tmp_path / "p.yaml").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mine(project: Path, curate: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: curate("--plugins-file", str(project / "mine.py"), *arguments)


def test_list_counts_by_stage_and_code_with_an_example(project: Path, mine: Any) -> None:
    mine("run", "p.yaml")
    lines = mine("quarantine", "list", "runs/p").out.splitlines()
    words = [line.split() for line in lines]
    assert words[0] == ["stage", "code", "records", "meaning"]
    assert words[1][:3] == ["measure", "stage_error", "2"]
    (example,) = [line for line in lines if line.startswith("  stage_error: ")]
    assert "m.jsonl:" in example and example.endswith(".wav'")  # however narrow the terminal is
    assert lines[-1].endswith("curate quarantine retry runs/p")
    kinds = json.loads(mine("quarantine", "list", "runs/p", "--json").out)
    assert [(kind["stage"], kind["code"], kind["records"]) for kind in kinds] == [
        ("measure", "stage_error", 2),
        ("read_manifest", "bad_json", 1),
    ]
    assert kinds[1]["example"].endswith("m.jsonl:7")
    assert kinds[1]["meaning"] == "the manifest line is not one JSON object, or an object in it has a key twice"
    assert [
        kind["code"] for kind in json.loads(mine("quarantine", "list", "runs/p", "--code", "bad_json", "--json").out)
    ]


def test_show_tells_all_about_a_record(project: Path, mine: Any) -> None:
    mine("run", "p.yaml")
    shown = mine("quarantine", "show", "runs/p", "m.jsonl:3").out
    assert shown.startswith("m.jsonl:3: stage_error at measure, tried once: FileNotFoundError")
    assert f'"audio_filepath": "{project}/2.wav"' in shown
    assert "Traceback (most recent call last)" in shown
    lines = mine("quarantine", "show", "runs/p", "--stage", "measure", "--json").out.splitlines()
    assert [json.loads(line)["_id"] for line in lines] == ["m.jsonl:3", "m.jsonl:6"]
    assert len(mine("quarantine", "show", "runs/p", "--limit", "1", "--json").out.splitlines()) == 1
    missing = mine("quarantine", "show", "runs/p", "m.jsonl:1")
    assert (missing.code, "has no failed record m.jsonl:1" in missing.err) == (2, True)


def test_retry_moves_what_is_mended_and_nothing_else(
    project: Path, mine: Any, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert mine("run", "p.yaml").code == 0
    (project / "2.wav").write_bytes(b"xx")
    (project / "5.wav").write_bytes(b"xxxxx")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))

    again = mine("quarantine", "retry", str(project / "runs/p"), "--stage", "measure", "--json")

    assert again.code == 0, again.err
    assert (json.loads(again.out)["kept"], json.loads(again.out)["failures"]) == (6, {"bad_json": 1})
    published = [json.loads(line) for line in (project / "runs/p/out.jsonl").open()]
    assert [row["size"] for row in published] == list(range(6))
    nothing = mine("quarantine", "retry", str(project / "runs/p"), "--stage", "measure")
    assert (nothing.code, "no record has failed with --stage measure" in nothing.err) == (2, True)


def test_retry_says_what_it_needs(project: Path, mine: Any) -> None:
    assert "holds no run" in mine("quarantine", "retry", "runs/p").err
    mine("run", "p.yaml")
    (project / "p.yaml").rename(project / "q.yaml")
    assert mine("quarantine", "retry", "runs/p").code == 2
    moved = mine("quarantine", "retry", "runs/p", "--pipeline", "q.yaml", "--json")
    assert moved.code == 0, moved.err


def test_a_run_that_was_started_from_python_needs_its_file(project: Path, mine: Any) -> None:
    from curate import Pipeline
    from curate.stages import Merge, ReadManifest

    Pipeline("p", [ReadManifest("m.jsonl"), Merge("out.jsonl")]).run(run_dir="runs/p")
    outcome = mine("quarantine", "retry", "runs/p")
    assert (outcome.code, "name one with --pipeline" in outcome.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "code"),
    [((), 0), (("--max-failures", "2"), 3), (("--max-failures", "3"), 0), (("--set", "max_failures=2"), 3)],
)
def test_the_budget_comes_from_the_command_line_or_the_file(
    project: Path, mine: Any, options: tuple[str, ...], code: int
) -> None:
    outcome = mine("run", "p.yaml", *options)
    assert outcome.code == code, outcome.err
    if code:
        assert "2  stage_error at measure, such as m.jsonl:6: FileNotFoundError" in outcome.err
        assert "curate quarantine retry" in outcome.err


@pytest.mark.parametrize(
    "text", ["max_failures: -1", "max_failures: many", "max_failure_ratio: 2", "max_failures: 1.5"]
)
def test_a_budget_that_means_nothing_is_refused_with_its_place(project: Path, mine: Any, text: str) -> None:
    (project / "p.yaml").write_text(f"{PIPELINE}{text}\n")
    outcome = mine("run", "p.yaml")
    assert outcome.code == 2
    assert "p.yaml:5:" in outcome.err


def test_fork_and_grown_from_the_command_line(project: Path, mine: Any) -> None:
    mine("run", "p.yaml")
    with (project / "m.jsonl").open("a") as file:
        file.write('{"audio_filepath": "0.wav", "n": 7}\n')
    refused = mine("run", "p.yaml")
    assert (refused.code, "--grown" in refused.err) == (2, True)
    grown = mine("run", "p.yaml", "--grown", "--json")
    assert json.loads(grown.out)["records_in"] == 8
    stricter = PIPELINE.replace("  - {use: merge", '  - {use: quality_filter, expression: "size > 0"}\n  - {use: merge')
    (project / "p.yaml").write_text(stricter.replace("out.jsonl", "out.parquet"))
    refused = mine("run", "p.yaml")
    assert (refused.code, "--fork NEW_DIR" in refused.err) == (2, True)
    forked = mine("run", "p.yaml", "--fork", "runs/q", "--json")
    assert json.loads(forked.out)["outputs"] == ["runs/q/out.parquet"]


def status(mine: Any, *options: str) -> dict[str, Any]:
    return json.loads(mine("status", "runs/p", "--json", *options).out)


def test_status_of_a_run_that_is_done(project: Path, mine: Any) -> None:
    assert mine("status", "runs/p").code == 2
    mine("run", "p.yaml")
    found = status(mine)
    assert (found["name"], found["status"], found["live"]) == ("p", "finished", None)
    (phase,) = found["phases"]
    assert (phase["records_in"], phase["kept"], phase["quarantined"], phase["complete"]) == (7, 4, 3, True)
    assert found["failures"][0] == {"stage": "measure", "code": "stage_error", "records": 2}
    assert found["driver"]["pid"] == os.getpid()
    shown = mine("status", "runs/p").out
    assert "p in runs/p: finished" in shown
    assert "failed: 2 stage_error at measure" in shown


def test_status_of_a_run_that_was_stopped(project: Path, mine: Any) -> None:
    mine("run", "p.yaml", "--max-failures", "2")
    found = status(mine)
    assert found["status"] == "failed"
    assert found["error"].startswith("3 records have failed, more than max_failures = 2 allows")
    assert "\n" not in found["error"]
    assert "p in runs/p: failed (3 records have failed" in mine("status", "runs/p").out


HANGS = """
from curate import processing_stage

@processing_stage(name="measure", writes=["size"])
def measure(record: dict) -> dict:
    if record["n"] == 3:
        print("hanging", flush=True)
        open("gate").read()
    return {**record, "size": 0}
"""


def test_status_of_a_run_at_work_and_of_one_that_was_killed(project: Path, mine: Any) -> None:
    (project / "mine.py").write_text(HANGS)
    (project / "p.yaml").write_text(
        PIPELINE.replace("  - use: measure", "  - {use: partition, max_records: 1}\n  - use: measure")
    )
    os.mkfifo(project / "gate")
    command = [sys.executable, "-m", "curate.cli", "-q", "--plugins-file", "mine.py", "run", "p.yaml"]
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "hanging\n"

    found = status(mine)
    assert (found["status"], found["driver"]["pid"], found["driver"]["alive"]) == ("running", process.pid, True)
    assert (found["live"]["phase"], found["live"]["executor"]) == (0, "local")
    assert f"driver: process {process.pid}" in mine("status", "runs/p").out
    refused = mine("run", "p.yaml")
    assert (refused.code, f"is in use by process {process.pid} on" in refused.err) == (2, True)

    watching = subprocess.Popen(
        [sys.executable, "-m", "curate.cli", "status", "runs/p", "--watch", "--json", "--interval", "0.1"],
        cwd=project,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["status"] == "running"
    process.kill()
    process.wait()
    lines = watching.communicate(timeout=60)[0].splitlines()
    assert json.loads(lines[-1])["status"] == "crashed"
    assert watching.returncode == 0
    shown = mine("status", "runs/p").out
    assert "was killed" in shown
    assert "Run the same command again to resume" in shown


def test_progress_and_estimate_come_from_the_state_that_the_driver_leaves(project: Path, mine: Any) -> None:
    mine("run", "p.yaml")
    path = project / "runs/p/state.json"
    state = json.loads(path.read_text())
    state |= {"records_in": 60, "audio_s": 30.0, "elapsed_s": 20.0, "expected": 160, "written": time.time()}
    state |= {"since": {"records_in": 10, "audio_s": 0.0, "elapsed_s": 0.0}}
    path.write_text(json.dumps(state))
    from curate.engine.durability.lock import DriverLock

    with DriverLock(project / "runs/p"):
        live = status(mine)["live"]
        assert (live["records_per_s"], live["rtfx"], live["eta_s"]) == (2.5, 1.5, 40.0)
        assert "60 of 160 records, 2.5 records/s, 1.5 times real time, 40 s left" in mine("status", "runs/p").out
