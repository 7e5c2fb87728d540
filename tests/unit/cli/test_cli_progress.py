"""What a person sees while a run is on its way."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from rich.console import Console

from curate import Pipeline, processing_stage
from curate.cli.progress import HEARTBEAT_SECONDS, LineProgress, LiveProgress, progress_on
from curate.engine.protocol.events import RunFinished, RunProgress, RunStarted, RunStopped
from curate.plugin import PluginHost, hookimpl
from curate.stages import QualityFilter, ReadRecords

BEGIN = RunProgress(0, ("read", "asr"), 100, 90, 10, 0, 1000.0, 0.0, came=(100, 90))
SUMMARY = {"status": "finished", "wall_s": 12.0, "records_in": 200, "kept": 170, "filtered": 20, "quarantined": 10}
LATER = RunProgress(0, ("read", "asr"), 200, 180, 20, 0, 2000.0, 10.0, came=(200, 180))


class Told:
    def __init__(self) -> None:
        self.events: list[RunProgress] = []

    @hookimpl
    def curate_on_progress(self, event: RunProgress) -> None:
        self.events.append(event)


def lines() -> tuple[LineProgress, io.StringIO, list[float]]:
    out, now = io.StringIO(), [1000.0]
    return LineProgress(lambda line, _: print(line, file=out), clock=lambda: now[0]), out, now


def test_a_phase_is_told_of_from_its_begin_to_its_end() -> None:
    rows = [{"wer": number / 10} for number in range(10)]
    told, host = Told(), PluginHost()
    with host.observed_by(told):
        Pipeline("p", [ReadRecords(rows), QualityFilter("wer < 0.4"), QualityFilter("wer > 0.1")]).run(host=host)

    first, *_, last = told.events
    assert (first.records_in, first.ended, set(first.came)) == (0, False, {0})
    assert (last.ended, last.records_in, last.kept, last.filtered) == (True, 10, 2, 8)
    assert (first.workers, first.ready_s) == ((0,), None)
    assert last.ready_s is not None and 0 <= last.ready_s <= last.elapsed_s
    assert dict(zip(last.stages, last.came, strict=True)) == {
        "read_records": 10,
        "quality_filter": 10,
        "quality_filter-2": 4,
    }


def test_lines_are_printed_at_the_begin_and_the_end_and_seldom_between() -> None:
    progress, out, now = lines()
    progress.curate_on_progress(BEGIN)
    for number in range(29):
        now[0] += 1
        progress.curate_on_progress(attrs.evolve(LATER, came=(101 + number, 91 + number)))
    assert out.getvalue().splitlines() == ["phase 0 begins: read, asr"]

    now[0] += 1
    progress.curate_on_progress(LATER)
    progress.curate_on_progress(LATER)
    now[0] += 1
    progress.curate_on_progress(attrs.evolve(LATER, ended=True))
    progress.curate_on_progress(attrs.evolve(BEGIN, phase=1))
    progress.curate_on_run_finished(RunFinished(None, SUMMARY))

    counts = "200 records, 0.56 h of audio, 100.0 times real time, 20 filtered, 0 quarantined"
    assert out.getvalue().splitlines()[1:] == [
        f"phase 0: {counts}; records/s: read 10.0, asr 9.0",
        f"phase 0 has ended: {counts}",
        "phase 1 begins: read, asr",
        "the run is finished, after 12.0 s: 200 records in, 170 kept, 20 filtered, 10 quarantined",
    ]


def test_heartbeat_names_the_stages_and_the_records_done_where_no_line_came_for_long() -> None:
    progress, out, now = lines()
    progress.beat()
    progress.curate_on_progress(attrs.evolve(BEGIN, workers=(0,), total=1000))
    now[0] += HEARTBEAT_SECONDS - 1
    progress.beat()
    assert len(out.getvalue().splitlines()) == 1

    now[0] += 1
    progress.beat()
    progress.beat()
    now[0] += 10
    progress.curate_on_progress(attrs.evolve(LATER, workers=(1,), total=1000, ready_s=70.0, elapsed_s=70.0))
    now[0] += 300
    progress.beat()
    progress.curate_on_progress(attrs.evolve(LATER, ended=True))
    now[0] += 300
    progress.beat()
    beats = [line for line in out.getvalue().splitlines() if "at work for" in line]
    assert beats == [
        "phase 0 (read, asr): at work for 60 s; setting up workers",
        "phase 0 (read, asr): at work for 6.2 min; 200 of 1,000 records done, no new result for 5 min",
    ]


def test_heartbeat_names_the_stage_at_work_without_a_new_result() -> None:
    progress, out, now = lines()
    stages = ("read", "vad", "first", "second")
    event = RunProgress(0, stages, 1, 1, 0, 0, 10.0, 0.0, (1, 1, 1, 1), (1,), ready_s=0.0)
    progress.curate_on_progress(event)
    now[0] += 100
    progress.curate_on_progress(attrs.evolve(event, at_work=("second",)))
    progress.beat()
    now[0] += 100
    progress.curate_on_progress(attrs.evolve(event, at_work=("vad", "first", "second")))
    progress.beat()
    first, second = (line for line in out.getvalue().splitlines() if "at work" in line)
    assert first.endswith("at work at second for 100 s; 1 record done, no new result for 100 s")
    assert second.endswith("at work for 3.3 min; 1 record done, no new result for 3.3 min"), "nearly all stages"


@pytest.mark.processes
def test_events_name_the_stage_that_a_worker_has_announced() -> None:
    told, host = Told(), PluginHost()

    @processing_stage(name="quick", reads=[], writes=[])
    def quick(record: dict) -> dict:
        return record

    @processing_stage(name="slow", reads=[], writes=[])
    def slow(record: dict) -> dict:
        threading.Event().wait(1.0)  # workers are looked at four times in each `timeout_s`
        return record

    stages = [ReadRecords([{"n": 1}]), quick, slow.with_(timeout_s=2.0)]
    with host.observed_by(told):
        Pipeline("p", stages).run("multiprocessing", host=host)
    at_work = [event.at_work for event in told.events]
    assert at_work[0] == at_work[-1] == ()
    assert ("slow",) in at_work


def test_heartbeat_comes_while_a_batch_is_at_work_in_the_same_process() -> None:
    beaten, seen = threading.Event(), list[Mapping[str, Any]]()

    def say(_: str, fields: Mapping[str, Any]) -> None:
        seen.append(fields)
        if fields["event"] == "heartbeat":
            beaten.set()

    @processing_stage(name="long", reads=[], writes=[])
    def long(record: dict) -> dict:
        assert beaten.wait(60)
        return record

    host = PluginHost()
    with LineProgress(say, heartbeat_s=0.02) as progress, host.observed_by(progress):
        Pipeline("p", [ReadRecords([{"n": 1}]), long]).run(host=host)
    names = [fields["event"] for fields in seen]
    assert names[0] == "phase_began" and names[-2:] == ["phase_ended", "run_finished"]
    heartbeat = next(fields for fields in seen if fields["event"] == "heartbeat")
    assert (heartbeat["phase"], heartbeat["records_in"]) == (0, 0)


def test_speed_does_not_count_the_time_of_loading() -> None:
    progress, out, _ = lines()
    progress.curate_on_progress(attrs.evolve(BEGIN, workers=(0,)))
    progress.curate_on_progress(attrs.evolve(LATER, workers=(1,), elapsed_s=50.0, ready_s=40.0, ended=True))
    assert "100.0 times real time" in out.getvalue()


def test_display_shows_the_set_up_of_workers() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    progress = LiveProgress(console)
    progress.curate_on_progress(attrs.evolve(BEGIN, workers=(0,)))
    with console.capture() as shown:
        console.print(progress._drawn())
    assert "phase 0: setting up workers" in shown.get()


def test_a_run_that_goes_on_says_so_and_counts_its_own_speed_only() -> None:
    progress, out, _ = lines()
    progress.curate_on_run_started(RunStarted("p", Path("runs/p"), ("read",), 100))
    progress.curate_on_progress(BEGIN)
    progress.curate_on_progress(attrs.evolve(LATER, ended=True))

    assert out.getvalue().startswith("resuming the run in runs/p: 100 records are finished\n")
    assert "100.0 times real time" in out.getvalue()


def test_a_terminal_gets_a_display_with_the_rate_of_each_stage() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    progress = progress_on(console)
    assert isinstance(progress, LiveProgress)
    assert isinstance(progress_on(Console(file=io.StringIO())), LineProgress)
    with progress:
        progress.curate_on_progress(BEGIN)
        progress.curate_on_progress(LATER)
        with console.capture() as shown:
            console.print(progress._drawn())
    text = " ".join(shown.get().split())

    assert "200 records, 0.56 h of audio, 100.0 times real time 20 filtered, 0 quarantined" in text
    assert re.search(r"read ━+ 200 10\.0 records/s", text)
    assert re.search(r"asr ━+ 180 9\.0 records/s", text)


def test_a_phase_with_a_model_names_its_loading_until_a_record_is_finished() -> None:
    console, out = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None), io.StringIO()
    progress = progress_on(console, models=["asr"])
    assert isinstance(progress, LiveProgress)

    def drawn(event: RunProgress) -> str:
        progress.curate_on_progress(event)
        with console.capture() as shown:
            console.print(progress._drawn())
        return shown.get()

    assert "phase 0: loading the model of asr" in drawn(attrs.evolve(BEGIN, workers=(0,)))
    assert "loading" not in drawn(attrs.evolve(LATER, workers=(1,), ready_s=1.0))
    written = LineProgress(lambda line, _: print(line, file=out), models=["asr", "align"])
    written.curate_on_progress(attrs.evolve(BEGIN, stages=("read",)))
    written.curate_on_progress(attrs.evolve(BEGIN, phase=1, stages=("asr", "align")))
    assert out.getvalue().splitlines() == [
        "phase 0 begins: read",
        "phase 1 begins: asr, align; loading the models of asr, align",
    ]


def test_how_long_it_will_take_is_told_where_the_total_is_known() -> None:
    progress, out, now = lines()
    progress.curate_on_progress(attrs.evolve(BEGIN, total=1000))
    now[0] += 60
    progress.curate_on_progress(attrs.evolve(LATER, total=1000, workers=(2, 1)))
    assert "200 of 1,000 records" in out.getvalue()
    assert "3 workers, about 80 s left" in out.getvalue()  # 800 records at 10 in a second


def test_lines_of_json_have_the_numbers_as_fields() -> None:
    out = io.StringIO()
    progress = progress_on(Console(file=out, width=40, force_terminal=True), as_json=True)
    progress.curate_on_progress(BEGIN)
    progress.curate_on_progress(attrs.evolve(LATER, ended=True, workers=(1,)))
    progress.curate_on_run_finished(RunFinished(None, SUMMARY))
    began, ended, over = map(json.loads, out.getvalue().splitlines())
    assert (began["event"], ended["event"], over["event"]) == ("phase_began", "phase_ended", "run_finished")
    assert {name: ended[name] for name in ("records_in", "kept", "filtered", "rtfx", "workers")} == {
        "records_in": 200,
        "kept": 180,
        "filtered": 20,
        "rtfx": 100.0,
        "workers": [1],
    }
    assert over["kept"] == SUMMARY["kept"]


def test_a_run_that_stops_says_why() -> None:
    progress, out, _ = lines()
    progress.curate_on_run_stopped(RunStopped(None, False, "InfrastructureError: the disk is full"))
    assert out.getvalue() == "the run stopped: InfrastructureError: the disk is full\n"
