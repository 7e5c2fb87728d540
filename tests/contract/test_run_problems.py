"""A run that has achieved nothing says so, on every executor: nothing kept, or a stage that failed on most records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline, RecordError, RecordStage
from curate.cli import main
from curate.errors import EXIT_NO_RESULT
from curate.records import Record
from curate.stages import Merge, NemoTarredWriter, QualityFilter, ReadManifest, ReadRecords

EXECUTORS = ["local", "multiprocessing", "ray"]


@dataclass
class Fails(RecordStage):
    """Fails on the first records."""

    count: int

    def process_record(self, record: Record) -> Record:
        if record["x"] < self.count:
            raise RecordError("bad_value", f"{record['x']} is too small")
        return record


def run(executor: Any, run_dir: Path | None, failing: int, records: int = 10, **options: Any) -> Any:
    read = ReadRecords([{"x": x} for x in range(records)])
    stages = [read, Fails(failing), *([Merge("out.jsonl")] if run_dir is not None else [])]
    return Pipeline("fails", stages).run(executor, run_dir=run_dir, **options)


@pytest.mark.parametrize("place", EXECUTORS, indirect=True)
def test_run_in_which_all_fails_names_the_cause_and_publishes_nothing(place: Any, tmp_path: Path) -> None:
    result = run(place, tmp_path / "run", failing=10)
    assert result.problem.splitlines() == [
        "nothing was kept of 10 records: 10 failed; nothing was published",
        "10 records failed with bad_value at fails; this shows them:",
        f"  curate quarantine show {tmp_path / 'run'} --stage fails",
    ]
    assert result.outputs == ()
    assert not (tmp_path / "run" / "out.jsonl").exists()


@pytest.mark.parametrize("executor", ["local", "multiprocessing"])
def test_command_in_which_all_fails_ends_with_5_and_the_cause_on_its_last_lines(
    executor: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.jsonl").write_text('{"audio_filepath": "a.wav"}\n' * 4)
    path, run_dir = tmp_path / "pipeline.yaml", tmp_path / "run"
    path.write_text(
        f"name: p\nstages:\n  - use: read_manifest\n    manifest: {tmp_path / 'in.jsonl'}\n"
        "  - use: audio_levels\n  - use: merge\n    path: out.jsonl\n"
    )
    assert main(["run", str(path), "--run-dir", str(run_dir), "--executor", executor]) == EXIT_NO_RESULT == 5
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-3:] == [
        "error: nothing was kept of 4 records: 4 failed; nothing was published",
        "4 records failed with missing_file at audio_levels; this shows them:",
        f"  curate quarantine show {run_dir} --stage audio_levels",
    ]
    shown = captured.err.splitlines()[-1].split()[1:]
    assert main(shown) == 0
    assert "missing_file" in capsys.readouterr().out
    assert main(["run", str(path), "--run-dir", str(run_dir), "--json"]) == 5
    assert json.loads(capsys.readouterr().out)["problem"].startswith("nothing was kept")


def test_stage_that_fails_on_more_than_half_of_three_records_is_a_problem(tmp_path: Path) -> None:
    result = run("local", tmp_path / "a", failing=6)
    assert result.problem.startswith("stage fails failed on 6 of its 10 records\n6 records failed with bad_value")
    assert "--max-failure-ratio" in result.problem.splitlines()[-1]
    assert len(result.outputs) == 1  # what was kept is published
    assert run("local", tmp_path / "b", failing=5).problem == ""
    assert run("local", tmp_path / "c", failing=1, records=2).problem == ""
    assert run("local", tmp_path / "d", failing=2, records=3).problem != ""
    assert run("local", tmp_path / "e", failing=6, max_failure_ratio=0.6).problem == ""
    assert run("local", tmp_path / "f", failing=6, max_failure_ratio=0.5).problem != ""
    assert run("local", tmp_path / "a", failing=6).problem == result.problem  # of the run, although nothing was done
    assert run("local", None, failing=2, records=2).problem.endswith("see RunResult.quarantined")


def test_filter_that_keeps_nothing_is_a_problem_and_no_set_is_published(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"audio_filepath": "a.wav", "duration": 1.0}\n' * 3)
    read = ReadManifest(tmp_path / "in.jsonl")
    stages = [read, QualityFilter("duration > 2"), NemoTarredWriter("set")]
    result = Pipeline("none", stages).run(run_dir=tmp_path / "run")
    assert result.problem.splitlines() == [
        "nothing was kept of 3 records: 3 were filtered; nothing was published",
        "3 records did not satisfy duration > 2 at quality_filter; this shows them:",
        f"  curate report {tmp_path / 'run'}",
    ]
    assert not (tmp_path / "run" / "set").exists()


def test_input_without_records_is_a_problem(tmp_path: Path) -> None:
    assert run("local", tmp_path / "run", failing=0, records=0).problem == "nothing was kept: the input has no records"


def test_pipeline_without_an_output_stage_is_mentioned_in_its_plan_and_ends_with_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n')
    path = tmp_path / "pipeline.yaml"
    path.write_text(f"name: p\nstages:\n  - use: read_manifest\n    manifest: {tmp_path / 'in.jsonl'}\n")
    said = "no stage publishes the kept records: add an output stage, such as merge, at the end"
    assert main(["plan", str(path)]) == 0
    assert said in " ".join(capsys.readouterr().out.split())
    assert main(["run", str(path), "--run-dir", str(tmp_path / "run")]) == 0
    assert said in " ".join(capsys.readouterr().err.split())
