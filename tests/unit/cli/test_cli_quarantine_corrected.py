"""`curate quarantine retry` after a stage in a plugins-file was corrected; a run remembers its plugins-files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curate.cli import main

STAGES = """
from curate import processing_stage

@processing_stage(name="first", writes=["first"])
def first(record: dict) -> dict:
    return {{**record, "first": {first}}}

@processing_stage(name="second", writes=["second"])
def second(record: dict) -> dict:
    if {broken}:
        raise ValueError("a mistake")
    return {{**record, "second": record["x"]}}
"""

PIPELINE = """
name: p
stages:
  - use: read_manifest
    manifest: m.jsonl
  - use: first
  - use: quality_filter
    expression: x != 5
  - use: second
  - use: merge
    path: out.jsonl
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.jsonl").write_text("".join(f'{{"x": {x}}}\n' for x in range(10)))
    (tmp_path / "p.yaml").write_text(PIPELINE)
    return tmp_path


def write_stages(project: Path, broken: str, first: str = "1") -> None:
    (project / "stages.py").write_text(STAGES.format(broken=broken, first=first))


def run() -> int:
    return main(["--plugins-file", "stages.py", "run", "p.yaml", "--run-dir", "run", "--no-report"])


def retry(*options: str) -> int:
    return main(["quarantine", "retry", "run", *options])


@pytest.mark.parametrize("executor", ["local", "multiprocessing"])
def test_stage_that_only_failed_records_have_met_may_be_corrected(
    project: Path, executor: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stages(project, "True")
    run()
    before = json.loads((project / "run" / "run.json").read_text())
    write_stages(project, "record['x'] == 7")
    monkeypatch.chdir(project.parent)  # the run remembers its plugins-file by its whole path
    assert main(["quarantine", "retry", str(project / "run"), "--executor", executor]) == 0
    assert "'second'" in (told := capsys.readouterr().err) and "only failed records have met it" in told
    rows = [json.loads(line) for line in (project / "run" / "out.jsonl").read_text().splitlines()]
    assert [row["second"] for row in rows] == [0, 1, 2, 3, 4, 6, 8, 9]
    after = json.loads((project / "run" / "run.json").read_text())
    (correction,) = after["corrected"]
    assert (correction["stages"], correction["fingerprint"]) == (["second"], before["fingerprint"])
    monkeypatch.chdir(project)
    assert run() == 0  # resumes with the code of now
    write_stages(project, "False")
    assert retry() == 2
    assert "8 of its 9 records have passed it as it was" in capsys.readouterr().err


def test_stage_that_records_have_passed_may_not_be_corrected(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_stages(project, "record['x'] == 7")
    run()
    write_stages(project, "False")
    assert retry() == 2
    assert "stage 'second' has changed since the run began, and 8 of its 9 records" in capsys.readouterr().err
    write_stages(project, "True", first="2")
    assert retry() == 2
    assert "stage 'first' has changed since the run began, and 10 of its 10 records" in capsys.readouterr().err


def test_correction_does_not_loosen_an_ordinary_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_stages(project, "True")
    run()
    write_stages(project, "False")
    capsys.readouterr()
    assert run() == 2
    assert "holds a run with other settings" in capsys.readouterr().err


def test_missing_plugins_file_of_a_run_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_stages(project, "True")
    run()
    (project / "stages.py").rename(project / "moved.py")
    assert retry() == 2
    assert f"the run used the plugins-file {project / 'stages.py'}, which is missing" in capsys.readouterr().err
    assert main(["--plugins-file", "moved.py", "quarantine", "retry", "run", "--json"]) in (0, 5)
