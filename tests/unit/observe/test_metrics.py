"""The events of all lives of a run, as lines that survive crashes and stay few."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate import InfrastructureError, Pipeline, processing_stage
from curate.engine import EVENTS_FILE
from curate.engine.protocol.events import RunFinished, RunProgress, RunStarted
from curate.observe import MetricsWriter
from curate.plugin import PluginHost
from curate.stages import Merge, ReadRecords


@pytest.fixture
def host() -> PluginHost:
    return PluginHost(environment={"CURATE_PLUGINS": ""})


def events(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / EVENTS_FILE).read_text().splitlines()]


def progress(records_in: int, *, ended: bool = False, phase: int = 0) -> RunProgress:
    return RunProgress(
        phase, ("a",), records_in, records_in, 0, 0, 0.0, float(records_in), came=(records_in,), ended=ended
    )


def test_a_run_leaves_its_events_and_they_agree_with_its_summary(tmp_path: Path, host: PluginHost) -> None:
    rows = [{"n": number} for number in range(50)]
    result = Pipeline("p", [ReadRecords(rows), Merge("out.jsonl")]).run(run_dir=tmp_path / "run", host=host)
    told = events(tmp_path / "run")
    assert [event["event"] for event in told] == [
        "run_started",
        "progress",
        "unit_committed",
        "progress",
        "run_finished",
    ]
    assert told[0]["executor"] == "local"
    assert {"python", "curate"} <= told[0]["versions"].keys()
    last = told[-2]
    assert last["ended"]
    assert {name: last[name] for name in ("records_in", "kept", "filtered", "quarantined")} == {
        name: result.summary[name] for name in ("records_in", "kept", "filtered", "quarantined")
    }


def test_a_later_life_appends_and_begins_a_new_line(tmp_path: Path, host: PluginHost) -> None:
    failing = [True]

    @processing_stage(name="shaky", reads=["n"], writes=[])
    def shaky(record: dict) -> dict:
        if failing[0] and record["n"] == 3:
            raise InfrastructureError("the disk is gone")
        return record

    def run() -> None:
        stages = [ReadRecords([{"n": number} for number in range(5)]), shaky, Merge("out.jsonl")]
        Pipeline("p", stages).run(run_dir=tmp_path / "run", host=host)

    with pytest.raises(InfrastructureError):
        run()
    stopped = events(tmp_path / "run")[-1]
    assert (stopped["event"], stopped["interrupted"]) == ("run_stopped", False)
    assert "the disk is gone" in stopped["error"]
    with (tmp_path / "run" / EVENTS_FILE).open("a") as file:
        file.write('{"torn')
    failing[0] = False
    run()
    lines = (tmp_path / "run" / EVENTS_FILE).read_text().splitlines()
    assert '{"torn' in lines
    whole = [json.loads(line)["event"] for line in lines if line != '{"torn']
    assert whole.count("run_started") == 2
    assert whole[-1] == "run_finished"


def test_a_run_in_memory_writes_nothing(tmp_path: Path, host: PluginHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Pipeline("p", [ReadRecords([{"n": 1}])]).run(host=host)
    assert list(tmp_path.iterdir()) == []


def test_progress_is_noted_seldom_and_more_seldom_the_longer_it_takes(tmp_path: Path) -> None:
    now = [0.0]
    writer = MetricsWriter(clock=lambda: now[0])
    writer.curate_on_run_started(RunStarted("p", tmp_path, ("a",), 0))
    for step in range(100_000):  # a tenth of a second each
        now[0] = step / 10
        writer.curate_on_progress(progress(step))
    writer.curate_on_progress(progress(100_000, ended=True))
    writer.curate_on_progress(progress(0, phase=1))
    writer.curate_on_run_finished(RunFinished(tmp_path, {"status": "finished"}))
    told = events(tmp_path)
    assert len(told) < 3500
    noted = [event["records_in"] for event in told if event["event"] == "progress"]
    assert noted[-2:] == [100_000, 0]
    assert noted[1] - noted[0] < noted[-3] - noted[-4]


def test_run_logs_its_start_and_its_end(tmp_path: Path, host: PluginHost, messages: list[str]) -> None:
    Pipeline("p", [ReadRecords([{"n": 1}])]).run(run_dir=tmp_path / "run", host=host)
    assert messages.pop(0) == "no stage publishes the kept records: add an output stage, such as merge, at the end"
    assert messages[0] == "run p starts on local; 0 records are finished already"
    assert "run finished: 1 in, 1 kept, 0 filtered, 0 quarantined" in messages
