"""A run directory is read through one class, and its status has one word, whoever asks."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline, RecordError, processing_stage
from curate.cli import main
from curate.engine import EVENTS_FILE, Interrupted, Retry, RunOptions, RunReader, RunStatus
from curate.engine.durability.copies import remove_commit
from curate.engine.durability.lock import DriverLock
from curate.errors import BudgetExceededError, InfrastructureError, RunDirectoryError
from curate.plugin import hookimpl
from curate.plugin.host import PluginHost
from curate.report import write_report
from curate.stages import Merge, QualityFilter, ReadRecords

ROWS = [{"x": x, "duration": 1.5} for x in range(12)]


@processing_stage(name="judge", reads=["x"], writes=["y"])
def judge(record: dict) -> dict:
    if record["x"] % 4 == 3:
        raise RecordError("bad_value", f"x = {record['x']}")
    return {**record, "y": record["x"] * 2}


def pipeline(*, most: int = 10, checkpoint: bool = False) -> Pipeline:
    stages = [judge.with_(checkpoint=checkpoint), QualityFilter(f"y <= {most}"), Merge("out.jsonl")]
    return Pipeline("p", [ReadRecords(ROWS), *stages])


def lock_file(run_dir: Path) -> Path:
    (path,) = run_dir.glob("driver-*.json")
    return path


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    pipeline(checkpoint=True).run(run_dir=tmp_path / "run")
    return tmp_path / "run"


def test_reader_returns_records_and_notes_of_every_phase(run_dir: Path) -> None:
    run = RunReader(run_dir)
    assert [record["x"] for record in run.records()] == [0, 1, 2, 4, 5]
    assert [(note["_id"], note["stage"], note["record"]["x"]) for note in run.filtered()] == [
        ("records:7", "quality_filter", 6),
        ("records:9", "quality_filter", 8),
        ("records:10", "quality_filter", 9),
        ("records:11", "quality_filter", 10),
    ]
    assert [(note["_id"], note["code"], note["attempts"]) for note in run.failed()] == [
        ("records:4", "bad_value", 1),
        ("records:8", "bad_value", 1),
        ("records:12", "bad_value", 1),
    ]
    assert list(run.failed(Retry(stage="other"))) == []
    assert run.failure_counts() == [("judge", "bad_value", 3)]
    (kind,) = run.failure_kinds()
    assert (kind["records"], kind["example"], kind["message"]) == (3, "records:12", "x = 11")


def test_reader_returns_the_plan_and_where_its_settings_are_from(run_dir: Path, tmp_path: Path) -> None:
    run = RunReader(run_dir)
    assert (run.name, run.layout) == ("p", [["read_records", "judge"], ["quality_filter", "merge"]])
    assert run.settings["quality_filter"]["expression"] == "y <= 10"
    assert run.origin == {}
    asked = RunOptions(origin={"file": "p.yaml", "sets": ["a=1"]})
    pipeline().run(run_dir=tmp_path / "asked", options=asked)
    assert RunReader(tmp_path / "asked").origin == {"file": "p.yaml", "sets": ["a=1"]}


def test_reader_counts_what_is_committed(run_dir: Path) -> None:
    run = RunReader(run_dir)
    assert [(run.counts(phase).records_in, run.counts(phase).kept, run.is_complete(phase)) for phase in (0, 1)] == [
        (12, 9, True),
        (9, 5, True),
    ]
    read, judged = run.stages(0)
    assert (read.flow.records_out, judged.flow.records_in, judged.flow.records_out) == (12, 12, 9)
    assert judged.codes == {"bad_value": [3, 4500]}
    assert run.summary is not None and run.summary["kept"] == 5
    assert run.committed_at() == pytest.approx(time.time(), abs=600)
    assert next(event["event"] for event in run.events()) == "run_started"
    assert len(run.attempts()) == 1


def test_reader_passes_over_a_torn_event(run_dir: Path) -> None:
    before = len(list(RunReader(run_dir).events()))
    with (run_dir / EVENTS_FILE).open("a") as file:
        file.write('{"event": "prog')
    assert len(list(RunReader(run_dir).events())) == before


def test_reader_reports_damaged_unit_files_and_reads_the_others(run_dir: Path) -> None:
    pipeline(checkpoint=True).run(run_dir=run_dir.parent / "small", options=RunOptions(unit_bytes=1))
    run = RunReader(run_dir)
    (path,) = (run_dir / "quarantine").iterdir()
    path.write_bytes(b"{}\n")
    with pytest.raises(InfrastructureError, match=f"{path.name} is damaged"):
        list(run.failed())
    damaged: list[str] = []
    assert list(run.failed(damaged=damaged)) == []
    assert [f"{path.name} is damaged" in message for message in damaged] == [True]
    assert len(list(run.records(damaged=damaged))) == 5


def test_reader_refuses_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="holds no run"):
        RunReader(tmp_path)


def test_reader_names_a_damaged_commit(run_dir: Path) -> None:
    (path,) = (run_dir / "commits").glob("p1-*.json")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InfrastructureError, match=f"the commit .*{path.name} is damaged"):
        _ = RunReader(run_dir).commits


@pytest.mark.parametrize("vanishes_at", ["exists", "stat", "read_bytes"])
def test_reader_passes_over_a_commit_that_a_run_at_work_supersedes(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, vanishes_at: str
) -> None:
    superseded = max((run_dir / "commits").glob("p1-*.json"))
    original = getattr(Path, vanishes_at)

    def remove_before(path: Path, *arguments: Any, **options: Any) -> Any:
        """Let the driver remove the commit after its name was listed, and before it is looked at."""
        if path == superseded:
            remove_commit(run_dir, superseded.stem)
        return original(path, *arguments, **options)

    run = RunReader(run_dir)
    monkeypatch.setattr(Path, vanishes_at, remove_before)
    assert run.committed_at() is not None
    assert [len(commits) for commits in run.commits.values()] == [1]
    assert not superseded.is_file()


def test_report_written_while_a_run_writes_its_summary_names_no_damage(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = run_dir / "summary.json"
    content, read_bytes = summary.read_bytes(), Path.read_bytes
    summary.unlink()

    def write_after(path: Path) -> bytes:
        try:
            return read_bytes(path)
        finally:
            if path == summary:
                path.write_bytes(content)

    monkeypatch.setattr(Path, "read_bytes", write_after)
    assert "summary.json cannot be read" not in write_report(run_dir).read_text()


def test_differences_are_listed_in_the_order_of_the_stages(run_dir: Path, tmp_path: Path) -> None:
    pipeline(most=3, checkpoint=True).run(run_dir=tmp_path / "other")
    pipeline().run(run_dir=tmp_path / "one phase")
    run = RunReader(run_dir)
    (only,) = run.differences(RunReader(tmp_path / "other"))
    assert (only.stage, only.name, only.a, only.b) == ("quality_filter", "expression", "y <= 10", "y <= 3")
    (phases,) = run.differences(RunReader(tmp_path / "one phase"))
    assert (phases.stage, phases.name) == ("", "phases")
    assert list(run.differences(RunReader(run_dir))) == []


# The status.


class Cancelled(Interrupted): ...


def interrupted(run_dir: Path) -> None:
    @processing_stage(name="stops")
    def stops(record: dict) -> dict:
        raise Cancelled

    with pytest.raises(Cancelled):
        Pipeline("p", [ReadRecords(ROWS), stops]).run(run_dir=run_dir)


def failed(run_dir: Path) -> None:
    with pytest.raises(BudgetExceededError):
        pipeline().run(run_dir=run_dir, max_failures=1)


def finished(run_dir: Path) -> None:
    pipeline().run(run_dir=run_dir)


def crashed(run_dir: Path) -> None:
    finished(run_dir)
    later = time.time() + 5  # the attempt that was killed began after the last state was written
    edit(lock_file(run_dir), released=False, process_started="another", since=later)


def unfinished(run_dir: Path) -> None:
    finished(run_dir)
    (run_dir / "commits" / "complete-0.json").unlink()  # as a grown input leaves it


def running(run_dir: Path) -> None:
    finished(run_dir)
    holder = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    HOLDERS.append(holder)
    from curate.engine.durability import lock

    started = lock._process_started(holder.pid)  # pyright: ignore[reportPrivateUsage]
    later = time.time() + 5
    edit(lock_file(run_dir), released=False, pid=holder.pid, process_started=started, since=later)


HOLDERS: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def _no_holders() -> Any:
    yield
    while HOLDERS:
        HOLDERS.pop().communicate(b"\n")


@pytest.mark.parametrize("make", [running, finished, interrupted, failed, crashed, unfinished])
def test_status_has_one_word_for_status_report_and_compare(
    tmp_path: Path, make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    make(run_dir)
    word = make.__name__
    assert RunReader(run_dir).status == RunStatus(word)
    capsys.readouterr()
    assert main(["status", str(run_dir), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == word
    assert main(["compare", str(run_dir), str(run_dir), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["a"]["state"] == word
    page = write_report(run_dir, tmp_path / "report.html").read_text()
    assert f'<span class="pill {word}">{word}</span>' in page


def test_status_of_a_failed_run_has_its_error(tmp_path: Path) -> None:
    failed(tmp_path)
    assert RunReader(tmp_path).error.startswith("3 records have failed, more than max_failures = 1 allows")
    finished_after = pipeline().run(run_dir=tmp_path)
    assert finished_after.summary["status"] == RunReader(tmp_path).status == "finished"
    assert RunReader(tmp_path).error == ""


def test_status_of_a_driver_that_was_killed_after_its_end_is_finished(tmp_path: Path) -> None:
    finished(tmp_path)
    began = json.loads((tmp_path / "state.json").read_bytes())["started"]
    edit(lock_file(tmp_path), released=False, process_started="another", since=began)
    assert RunReader(tmp_path).status is RunStatus.FINISHED


def test_status_without_a_state_file_follows_from_the_lock_and_the_summary(tmp_path: Path) -> None:
    finished(tmp_path)
    (tmp_path / "state.json").unlink()
    assert RunReader(tmp_path).status is RunStatus.FINISHED
    with DriverLock(tmp_path):
        assert RunReader(tmp_path).status is RunStatus.RUNNING
    (tmp_path / "summary.json").unlink()
    assert RunReader(tmp_path).status is RunStatus.UNFINISHED


def test_an_observer_sees_its_own_run_at_work_and_then_finished(tmp_path: Path) -> None:
    seen: list[RunStatus] = []

    class Looks:
        @hookimpl
        def curate_on_unit_committed(self) -> None:
            seen.append(RunReader(tmp_path).status)

        @hookimpl
        def curate_on_run_finished(self) -> None:
            seen.append(RunReader(tmp_path).status)

    host = PluginHost(environment={"CURATE_PLUGINS": ""})
    with host.observed_by(Looks()):
        pipeline().run(run_dir=tmp_path, host=host)
        pipeline().run(run_dir=tmp_path, host=host)
    assert seen == [RunStatus.RUNNING, RunStatus.FINISHED, RunStatus.FINISHED]


# The result.


def test_result_has_the_same_notes_in_memory_and_on_disk(tmp_path: Path) -> None:
    stages = [ReadRecords(ROWS), judge, QualityFilter("y <= 10")]
    memory = Pipeline("p", stages).run()
    disk = Pipeline("p", stages).run(run_dir=tmp_path)
    assert list(disk.filtered) == list(memory.filtered)
    assert next((note.root, note.record["x"], note.reason) for note in disk.filtered) == (
        "records:7",
        6,
        "y <= 10 (y = 12)",
    )
    assert [note.code for note in disk.quarantined] == ["bad_value"] * 3
    assert list(disk.quarantined) == list(memory.quarantined)
    assert list(disk.records()) == list(memory.records())


def test_notes_are_a_sequence(tmp_path: Path) -> None:
    notes = pipeline().run(run_dir=tmp_path).quarantined
    assert (len(notes), bool(notes), notes[0].record["x"], notes[-1].record["x"]) == (3, True, 3, 11)
    assert [note.record["x"] for note in notes[1:]] == [7, 11]
    assert notes == list(notes)
    assert notes != []
    with pytest.raises(IndexError):
        _ = notes[3]
    assert pipeline(most=100).run(run_dir=tmp_path / "all").filtered == []


def test_root_of_a_part_is_its_source_record(tmp_path: Path) -> None:
    @processing_stage(name="splits", cardinality="splits")
    def splits(record: dict) -> list[dict]:
        return [{"x": record["x"], "k": k} for k in range(2)]

    stages = [ReadRecords(ROWS[:1]), splits, QualityFilter("k > 5")]
    memory = Pipeline("p", stages).run()
    disk = Pipeline("p", stages).run(run_dir=tmp_path)
    assert (
        [(note.root, note.record["_id"]) for note in disk.filtered]
        == [
            ("records:1", "records:1/0"),
            ("records:1", "records:1/1"),
        ]
        == [(note.root, note.record["_id"]) for note in memory.filtered]
    )
