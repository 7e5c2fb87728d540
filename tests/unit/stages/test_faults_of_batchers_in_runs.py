"""Faults of well-known batchers that show in a run alone; the others are with the planner's tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline
from curate.bench import bench_batch_sizes
from curate.errors import InfrastructureError
from curate.monitoring import PerformanceMonitor
from curate.stages import Merge, Partition, ReadManifest, ReadRecords
from tests.unit.stages.stub_recogniser import StubAsrStage, StubRecogniser

Clip = Callable[[int], str]


@dataclass
class AnyStub(StubAsrStage):
    """A stage whose stub may be another in the next life of the run."""

    tuning = StubAsrStage.tuning | {"make"}


def test_what_is_done_is_what_was_committed_and_not_what_a_file_is_there_for(clip: Clip, tmp_path: Path) -> None:
    """Files `batch_0003.jsonl`, written in place, count as done when they exist, and mean others with another size."""
    lengths = [100 + 10 * (number % 9) for number in range(60)]
    rows = [{"audio_filepath": clip(ms), "duration": ms / 1000, "n": n} for n, ms in enumerate(lengths)]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    roots = [str(Path(clip(100)).parent)]

    def run(most_batches: int, size: int, records: int) -> Any:
        def gone(heard_ms: list[int]) -> None:
            if len(recogniser.batches) > most_batches:
                raise InfrastructureError("the card is gone")

        recogniser = StubRecogniser(gone)
        stage = AnyStub(make=lambda: recogniser).with_(batch_size=size)
        stages = [
            ReadManifest(str(manifest), roots=roots),
            Partition(records, by_length=False),
            stage,
            Merge("out.jsonl"),
        ]
        return Pipeline("asr", stages).run(run_dir=tmp_path / "run")

    for most_batches, size, records in ((2, 4, 8), (1, 16, 16), (3, 5, 60)):
        with pytest.raises(InfrastructureError, match="gone"):
            run(most_batches, size, records)
        for folder in ("data", "quarantine"):  # as a crash leaves them: half a file, named by nobody
            (tmp_path / "run" / folder / "p0-000099.jsonl").write_text('{"n": 0, "pred_te')
    assert run(1000, 3, 7).summary["kept"] == 60
    written = [json.loads(line) for line in (tmp_path / "run" / "out.jsonl").read_text().splitlines()]
    assert [(row["n"], row["pred_text"]) for row in written] == [(n, str(ms)) for n, ms in enumerate(lengths)]


def test_rtfx_is_seconds_of_audio_for_a_second_and_not_the_other_way_round() -> None:
    now_s = iter([0.0, 2.0])
    monitor = PerformanceMonitor(warm_up_batches=0, clock=lambda: next(now_s))
    monitor.start_monitoring()
    monitor.record_batch(10, audio_duration=100.0, processing_time=2.0)
    figures = monitor.get_statistics()
    assert (figures["rtfx"], figures["samples_per_second"]) == (50.0, 5.0)


def test_a_benchmark_divides_by_what_it_worked_on(clip: Clip) -> None:
    """Not by the hundred records that it was asked for: there are seven here, and one of them cannot be read."""
    rows = [{"audio_filepath": clip(200), "duration": 0.2} for _ in range(6)]
    rows.append({"audio_filepath": "/nowhere.wav", "duration": 0.2})
    pipeline = Pipeline("asr", [ReadRecords(rows), StubAsrStage()])
    for trial in bench_batch_sizes(pipeline, sizes=[4], repeats=1, limit=100).trials:
        assert trial.records == 6
        assert trial.transcription_s is not None
        assert trial.records_per_s == pytest.approx(6 / trial.transcription_s, rel=0.01)
        assert trial.rtfx == pytest.approx(1.2 / trial.transcription_s, rel=0.02)
