"""`bench_batch_sizes`: every setting on the same records, memory as a bound, a history to compare with, a picture."""

from __future__ import annotations

import json
import mmap
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from curate import AudioBatch, Pipeline, ProcessingStage, processing_stage
from curate.bench import BatchSizeReport, Trial, bench_batch_sizes, save_plot
from curate.errors import InfrastructureError, UsageError
from curate.plugin import PluginHost
from curate.records import Record
from curate.stages import AudioDuration, Partition, ReadRecords
from tests.shuffled_executor import ShuffledExecutor
from tests.unit.stages.stub_recogniser import StubAsrStage, StubRecogniser

Clip = Callable[[int], str]


@dataclass
class Crowded(ProcessingStage):
    """Takes as long for a batch however large it is, up to its end."""

    most: int = 16
    wait_s: float = 0.01
    name = "crowded"
    batch_size = 8
    tuning = frozenset({"wait_s"})

    def setup(self) -> None:
        assert self.context.audio_roots is None

    def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
        for first in range(0, len(batch), self.batch_size):
            if self.batch_size > self.most:
                raise MemoryError("no room for so many")
            threading.Event().wait(self.wait_s)
            yield batch.with_data(batch.data[first : first + self.batch_size])


def records(count: int = 16) -> list[Record]:
    return [{"text": str(number), "duration": 1.5} for number in range(count)]


def pipeline(stage: ProcessingStage, count: int = 16) -> Pipeline:
    return Pipeline("corpus", [ReadRecords(records(count)), Partition(max_records=3), stage])


def test_every_setting_is_measured_on_the_same_records_and_one_is_among_them() -> None:
    told: list[Trial] = []
    report = bench_batch_sizes(pipeline(Crowded()), sizes=[16, 4], repeats=2, limit=8, on_trial=told.append)
    assert [trial.setting for trial in report.trials] == [{"batch_size": size} for size in (1, 4, 16)]
    assert told == list(report.trials)
    assert (report.records, report.audio_s, report.executor, report.stage) == (8, 12.0, "local", "crowded")
    trials: list[Any] = list(report.trials)  # whose figures are optional
    for trial in trials:
        assert (trial.records, trial.audio_s) == (8, 12.0)
        assert trial.rtfx == pytest.approx(12.0 / trial.transcription_s, rel=0.01)
        assert trial.records_per_s == pytest.approx(8 / trial.transcription_s, rel=0.01)
        assert trial.total_s > 0
    one, four, sixteen = trials
    assert one.rtfx < four.rtfx < sixteen.rtfx
    assert report.best is sixteen
    assert report.yaml == "    batch_size: 16"


def test_memory_that_ends_is_a_bound_and_larger_sizes_are_not_tried() -> None:
    report = bench_batch_sizes(pipeline(Crowded(most=4)), sizes=[4, 8, 16], repeats=1)
    assert [trial.fits for trial in report.trials] == [True, True, False, False]
    assert report.bounds == ("4 records at a time fit into memory, 8 do not",)
    assert report.best.setting == {"batch_size": 4}


def test_when_nothing_fits_there_is_no_best() -> None:
    report = bench_batch_sizes(pipeline(Crowded(most=0)), sizes=[4], repeats=1)
    assert report.bounds == ("0 records at a time fit into memory, 1 do not",)
    with pytest.raises(UsageError, match="one record at a time does not fit"):
        _ = report.best


def test_memory_that_ends_in_setup_is_a_bound_too() -> None:
    @dataclass
    class Large(Crowded):
        def setup(self) -> None:
            if self.batch_size > 1:
                raise RuntimeError("CUDA out of memory")

    report = bench_batch_sizes(pipeline(Large()), sizes=[2], repeats=1)
    assert [trial.fits for trial in report.trials] == [True, False]


def test_other_trouble_is_nothing_to_be_measured() -> None:
    @dataclass
    class Gone(Crowded):
        def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
            raise InfrastructureError("the card is gone")

    with pytest.raises(InfrastructureError, match="the card is gone"):
        bench_batch_sizes(pipeline(Gone()), sizes=[2], repeats=1)

    @dataclass
    class Failing(Crowded):
        def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
            raise ValueError("no")

    with pytest.raises(UsageError, match="every record failed"):
        bench_batch_sizes(pipeline(Failing()), sizes=[2], repeats=1)


def test_replicas_need_an_executor_that_has_them() -> None:
    with pytest.raises(UsageError, match=r"'local' has one worker .* --executor multiprocessing"):
        bench_batch_sizes(pipeline(Crowded()), sizes=[2], replicas=[1, 2], repeats=1)
    report = bench_batch_sizes(
        pipeline(Crowded()), sizes=[4], replicas=[2], repeats=2, executor=ShuffledExecutor(workers=2)
    )
    assert [(trial.setting["batch_size"], trial.replicas) for trial in report.trials] == [(1, 2), (4, 2)]
    assert all(trial.rtfx > 0 and trial.idle == 0 for trial in report.trials)
    assert report.yaml.splitlines()[-1] == "    workers: 2"


def test_a_trial_with_an_idle_worker_is_told_and_is_not_the_best() -> None:
    thirty = ShuffledExecutor(workers=30)
    [trial] = bench_batch_sizes(
        pipeline(Crowded(), count=1), sizes=[1], replicas=[30], repeats=1, executor=thirty
    ).trials
    assert 0 < trial.idle < 30
    alone = Trial({"batch_size": 1}, 1, transcription_s=1.0, records_per_s=10.0)
    late = Trial({"batch_size": 1}, 2, transcription_s=0.5, records_per_s=20.0, idle=1)
    assert BatchSizeReport("p", "s", "x", 1, 1.0, "", "", (alone, late)).best is alone
    with pytest.raises(UsageError, match="idle in every trial"):
        _ = BatchSizeReport("p", "s", "x", 1, 1.0, "", "", (late,)).best


def test_replicas_are_processes_where_the_executor_has_them(clip: Clip) -> None:
    host = PluginHost()
    if "multiprocessing" not in [reference.name for reference in host.executors]:
        pytest.skip("there is no executor with processes here")
    rows = [{"audio_filepath": clip(ms)} for ms in range(100, 1100, 10)]
    report = bench_batch_sizes(
        Pipeline("corpus", [ReadRecords(rows), AudioDuration()]),
        stage="audio_duration",
        sizes=[1],
        replicas=[1, 2],
        repeats=2,
        executor="multiprocessing",
        host=host,
    )
    one, two = report.trials
    assert (one.idle, one.records, two.records) == (0, 100, 100)
    assert two.transcription_s > 0


def test_the_stages_before_make_the_input() -> None:
    @processing_stage(name="twice_as_long")
    def longer(record: Record) -> Record:
        return {**record, "duration": 2 * record["duration"]}

    stages = [ReadRecords(records(8)), longer, Crowded(wait_s=0.001)]
    assert bench_batch_sizes(Pipeline("corpus", stages), sizes=[8], repeats=1).audio_s == 24.0


def test_an_asr_stage_is_measured_by_number_by_budget_and_as_it_is(clip: Clip) -> None:
    def choke(heard_ms: list[int]) -> None:
        if len(heard_ms) * max(heard_ms) > 3000:
            raise MemoryError("too much")

    rows = [{"audio_filepath": clip(ms), "duration": ms / 1000} for ms in [100, 900, 200, 500] * 4]
    stage = StubAsrStage(make=lambda: StubRecogniser(choke), batching="length", max_batch_s=1.0)
    report = bench_batch_sizes(
        Pipeline("corpus", [ReadRecords(rows), stage]), sizes=[2, 8, 16], budgets=[2, 8], repeats=1
    )
    by_name = {trial.name: trial for trial in report.trials}
    assert list(by_name) == [
        "batch_size=1",
        "batch_size=2",
        "batch_size=8",
        "batch_size=16",
        "max_batch_s=2",
        "max_batch_s=8",
        "as in the pipeline",
    ]
    assert not by_name["batch_size=8"].fits
    assert by_name["batch_size=1"].waste == pytest.approx(0.0)
    assert by_name["max_batch_s=2"].ooms == 0
    too_much = by_name["max_batch_s=8"]
    assert too_much.fits and too_much.ooms > 0, "what the stage can help by itself is no bound"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process reset its peak")
def test_the_peak_is_of_each_setting_alone() -> None:
    @dataclass
    class Hungry(Crowded):
        def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
            # pages of its own: a bytearray may be given some that this process has held all along
            with mmap.mmap(-1, 60_000_000 if self.batch_size == 1 else 1) as held:
                held[::4096] = b"x" * len(held[::4096])
                yield batch

    one, two = bench_batch_sizes(pipeline(Hungry()), sizes=[2], repeats=1).trials
    if one.peak_of is None:
        pytest.skip("this system does not let a process reset its peak")
    assert one.peak_of == two.peak_of == "process"
    assert one.peak_bytes is not None and two.peak_bytes is not None
    assert one.peak_bytes - two.peak_bytes > 40_000_000


def test_each_run_is_kept_and_compared_with_the_one_before_on_the_same_basis(tmp_path: Path) -> None:
    history = tmp_path / "kept" / "bench.jsonl"

    def run(stage: ProcessingStage, count: int = 16) -> BatchSizeReport:
        return bench_batch_sizes(pipeline(stage, count), sizes=[8], repeats=1, history=history)

    first = run(Crowded())
    assert first.before is None
    assert run(Crowded(most=32)).before is None, "another stage"
    assert run(Crowded(), count=8).before is None, "other records"
    again = run(Crowded(wait_s=0.001))
    assert again.before == first
    assert again.before_of(again.trials[1]) == first.trials[1]
    assert len(history.read_text().splitlines()) == 4
    assert json.loads(history.read_text().splitlines()[0])["trials"][0]["fits"] is True


def test_a_line_of_another_version_is_left_out(tmp_path: Path) -> None:
    history = tmp_path / "bench.jsonl"
    first = bench_batch_sizes(pipeline(Crowded()), sizes=[8], repeats=1, history=history)
    with history.open("a") as file:
        file.write(json.dumps({**first.to_dict(), "another": 1}) + "\n")
    second = bench_batch_sizes(pipeline(Crowded()), sizes=[8], repeats=1, history=history)
    assert second.before is not None and second.before.trials == first.trials


def test_a_line_that_was_cut_off_does_not_spoil_the_history(tmp_path: Path) -> None:
    history = tmp_path / "bench.jsonl"
    bench_batch_sizes(pipeline(Crowded()), sizes=[8], repeats=1, history=history)
    with history.open("a") as file:
        file.write('{"cut off')
    second = bench_batch_sizes(pipeline(Crowded()), sizes=[8], repeats=1, history=history)
    third = bench_batch_sizes(pipeline(Crowded()), sizes=[8], repeats=1, history=history)
    assert second.before is not None
    assert third.before is not None and third.before.trials == second.trials


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_the_report_can_be_drawn(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib (the extra `bench`)")
    report = bench_batch_sizes(pipeline(Crowded(most=4)), sizes=[4, 8], repeats=1)
    path = tmp_path / "plots" / f"bench{suffix}"
    save_plot(report, path)
    assert path.read_bytes().startswith({".svg": b"<?xml", ".png": b"\x89PNG"}[suffix])


def test_a_plot_without_matplotlib_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = bench_batch_sizes(pipeline(Crowded()), sizes=[4], repeats=1)
    with pytest.raises(UsageError, match=r"\.svg, \.png, \.pdf"):
        save_plot(report, tmp_path / "bench.txt")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install 'curate-speech\[bench\]'"):
        save_plot(report, tmp_path / "bench.svg")


def report_of(*rates: tuple[int, float | None]) -> BatchSizeReport:
    trials = [
        Trial({"batch_size": size}, 1, transcription_s=rate and 1 / rate, records_per_s=rate) for size, rate in rates
    ]
    return BatchSizeReport("p", "s", "local", 1, 1.0, "", "", tuple(trials))


def test_the_smallest_that_is_about_as_fast_is_the_best() -> None:
    assert report_of((1, 50.0), (8, 99.0), (16, 100.0)).best.setting == {"batch_size": 8}
    assert report_of((1, 100.0), (8, 80.0)).best.setting == {"batch_size": 1}
    assert report_of((1, 1 / 600), (8, 1 / 500)).best.setting == {"batch_size": 8}, "long recordings take minutes each"


def test_a_stage_that_is_not_there_or_cannot_be_set_is_named() -> None:
    with pytest.raises(UsageError, match="unknown stage 'crowd'; the stages that can be measured are crowded"):
        bench_batch_sizes(pipeline(Crowded()), stage="crowd")
    with pytest.raises(UsageError, match=r"'crowded' cannot be measured with .*max_batch_s"):
        bench_batch_sizes(pipeline(Crowded()), sizes=[1], budgets=[60], repeats=1)
