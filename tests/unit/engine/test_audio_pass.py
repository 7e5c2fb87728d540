"""Neighbouring audio stages share one decoding, and everything else is as if each had decoded for itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate import AudioBatch, AudioSettings, AudioStage, Pipeline, processing_stage
from curate.audio import Audio
from curate.audio.recording import BLOCK_SAMPLES
from curate.cli.status import describe_status
from curate.engine import RunOptions, RunReader
from curate.engine.protocol.messages import BatchTask
from curate.engine.worker.stage_group import StageGroupRunner
from curate.records import ID, Record
from curate.report import write_report
from curate.stage import ProcessingStage, WorkerContext
from curate.stages import AudioDuration, Merge, Partition, QualityFilter, ReadRecords
from tests.unit.engine.hearing import Crashes, Fails, Halves, Level, Louder, Odd, recordings, write_noise
from tests.unit.engine.worker import Announced

SIX = [Level(f"level_{number}") for number in range(3)] + [Odd()] + [Level(f"level_{number}") for number in range(3, 6)]


def run(records: list[Record], *stages: Any, audio: AudioSettings | None = None, **options: Any) -> Any:
    pipeline = Pipeline("heard", [ReadRecords(records), Partition(max_records=64), *stages], audio=audio)
    return pipeline.run(**options)


def decodes(result: Any) -> dict[str, int]:
    return {group: measures["decodes"] for group, measures in result.summary["audio"].items()}


@processing_stage(name="marks")
def marks(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "marked": True}


SPIN_S = 0.01


class Spins(AudioStage):
    """It computes for SPIN_S seconds."""

    name = "spins"

    def process_audio(self, record: Record, audio: Audio) -> Record:
        end = time.perf_counter() + SPIN_S
        while time.perf_counter() < end:
            pass
        return record


@pytest.mark.parametrize("executor", ["local", "multiprocessing"])
def test_six_audio_stages_and_a_filter_decode_each_of_200_files_once(tmp_path: Path, executor: str) -> None:
    records = recordings(tmp_path / "audio", 200, 0.2)
    shared = run(records, *SIX, Merge("out.jsonl"), run_dir=tmp_path / "shared", executor=executor)
    assert decodes(shared) == {"+".join(stage.name for stage in _named(SIX)): 200}
    assert shared.summary["filtered"] == 100
    if executor == "local":
        alone = [stage.with_(fuse=False) for stage in SIX]
        apart = run(records, *alone, Merge("out.jsonl"), run_dir=tmp_path / "apart")
        least = run(records, *SIX, Merge("out.jsonl"), run_dir=tmp_path / "least", audio_memory=0)
        assert len(decodes(apart)) == 7
        bytes_of = [(tmp_path / name / "out.jsonl").read_bytes() for name in ("shared", "apart", "least")]
        assert bytes_of[0] == bytes_of[1] == bytes_of[2]
        assert least.summary["kept"] == 100


def _named(stages: list[Any]) -> list[ProcessingStage]:
    plan = Pipeline("names", [ReadRecords([{"audio_filepath": "x"}]), *stages]).plan()
    return [planned.stage for planned in plan.stages[1:]]  # pyright: ignore[reportReturnType]


def test_a_record_goes_through_the_whole_pass_before_the_next_and_a_filter_spares_the_rest(tmp_path: Path) -> None:
    Level.seen.clear()
    run(recordings(tmp_path, 3), Level("a"), Odd(), marks, Level("b"))
    assert Level.seen == ["a 0", "b 0", "a 1", "a 2", "b 2"]


def test_a_batch_stage_ends_a_pass(tmp_path: Path) -> None:
    @processing_stage(name="window")
    def window(batch: AudioBatch) -> AudioBatch:
        return batch.with_data([{**record, "window": len(batch)} for record in batch.data])

    Level.seen.clear()
    result = run(recordings(tmp_path, 3), Level("a"), window, Level("b"))
    assert Level.seen == ["a 0", "a 1", "a 2", "b 0", "b 1", "b 2"]
    assert {record["window"] for record in result.records()} == {3}


def test_a_decoding_error_goes_to_the_first_stage_that_listens(tmp_path: Path) -> None:
    records = recordings(tmp_path, 4)
    Path(records[2]["audio_filepath"]).write_bytes(b"\0" * 5000)
    result = run(records, AudioDuration(only_missing=True), Level("a"), Level("b"))
    (note,) = result.quarantined
    assert (note.record["number"], note.stage) == (2, "audio_duration")
    result = run([{**each, "duration": 0.5} for each in records], AudioDuration(only_missing=True), Level("a"))
    assert [note.stage for note in result.quarantined] == ["level"]


def test_a_stage_that_fails_is_retried_from_the_record_as_it_came_and_blamed_alone(tmp_path: Path) -> None:
    result = run(
        recordings(tmp_path, 5),
        Level("a"),
        Fails(numbers=(1,), times=1).with_(retries=1),
        Fails(numbers=(3,)).with_(name="second", retries=2),
        Level("b"),
    )
    (note,) = result.quarantined
    assert (note.record["number"], note.stage, note.attempts) == (3, "second", 3)
    assert "spoilt" not in note.record
    assert "b" not in note.record
    assert note.record["a"]
    assert [record["number"] for record in result.records()] == [0, 1, 2, 4]
    assert all(record["b"] for record in result.records())
    assert decodes(result) == {"level+fails+second+level-2": 5}


def test_time_is_counted_for_each_stage_of_a_pass(tmp_path: Path) -> None:
    result = run(recordings(tmp_path, 3), Level("a"), Spins(), Level("b"))
    busy_s = {name: stage["busy_s"] for name, stage in result.summary["by_stage"].items()}
    # Summaries round to the millisecond, in which a quick machine measures the levels of three short files.
    assert all(busy_s[name] >= 0 for name in ("level", "level-2"))
    assert 3 * SPIN_S <= busy_s["spins"] < sum(busy_s.values()) + 0.001


def test_children_hear_the_cut_of_their_parent_without_another_decoding(tmp_path: Path) -> None:
    records = recordings(tmp_path, 20, 1.000123)
    together = run(records, Level("whole"), Halves().with_(checkpoint=False), Level("part"))
    (count,) = decodes(together).values()
    assert count == 20
    assert together.summary["children"] == 40
    parts = list(together.records())
    alone = run([{k: v for k, v in part.items() if k not in ("part", ID)} for part in parts], Level("part"))
    assert [part["part"] for part in parts] == [part["part"] for part in alone.records()]


def test_a_stage_that_splits_audio_ends_a_phase(tmp_path: Path) -> None:
    def phases(split: Halves) -> int:
        return len(Pipeline("split", [ReadRecords(recordings(tmp_path, 1)), split, Level("part")]).plan().phases)

    assert (phases(Halves()), phases(Halves().with_(checkpoint=False))) == (2, 1)


@pytest.mark.parametrize("executor", ["local", "multiprocessing"])
def test_hours_limits_speed_and_report_go_by_the_decoded_length(tmp_path: Path, executor: str) -> None:
    """A file of 60 s claims 2, and one of 2 s claims 100,000; the third tells the truth."""
    lengths_s, claims = (60.0, 2.0, 5.0), (2, 100_000, 5.0)
    records: list[Record] = []
    for number, (length_s, claimed) in enumerate(zip(lengths_s, claims, strict=True)):
        path = write_noise(tmp_path / f"{number}.flac", length_s, seed=number)
        records.append({"audio_filepath": str(path), "number": number, "duration": claimed})
    limit = QualityFilter("duration <= 30")
    result = run(records, Level("a"), limit, Merge("out.jsonl"), executor=executor, run_dir=tmp_path / "run")
    summary = result.summary
    assert [(each["number"], each["duration"]) for each in result.records()] == [(1, 2.0), (2, 5.0)]
    hours = {name: round(3600 * value, 2) for name, value in summary["audio_hours"].items() if value}
    assert (hours["filtered"], hours["kept"]) == (60.0, 7.0)
    assert hours["in"] + hours["measured"] == pytest.approx(67.0)
    assert summary["audio_s"] == pytest.approx(67.0)
    assert 0 < summary["rtfx"] <= 67.0 / 0.001
    assert summary["rtfx"] == pytest.approx(67.0 / summary["wall_s"], rel=0.1)
    reader = RunReader(tmp_path / "run")
    last = [event for event in reader.events() if event["event"] == "progress"][-1]
    assert last["audio_s"] == pytest.approx(67.0)
    assert describe_status(reader)["phases"][0]["audio_hours_in"] == pytest.approx(67.0 / 3600, abs=1e-6)
    page = write_report(tmp_path / "run").read_text()
    assert "Wrong durations of 2 records" in page
    assert "100,000.000" in page
    assert "60.000" in page
    strict = AudioSettings(duration_mismatch="fail")
    failed = run(records, Level("a"), executor=executor, audio=strict)
    assert [(note.record["number"], note.code) for note in failed.quarantined] == [
        (0, "duration_mismatch"),
        (1, "duration_mismatch"),
    ]
    assert [record["number"] for record in failed.records()] == [2]


def test_an_audio_stage_that_defines_its_work_otherwise_is_in_no_pass(tmp_path: Path) -> None:
    class Counts(Level):
        def writes(self) -> tuple[str, ...]:
            return ("window",)

        def process(self, batch: AudioBatch) -> AudioBatch:
            return batch.with_data([{**record, "window": len(batch)} for record in batch.data])

    class Names(Level):
        def writes(self) -> tuple[str, ...]:
            return ("name",)

        def process_record(self, record: Record) -> Record:
            return {**record, "name": Path(record["audio_filepath"]).stem}

    assert [cls.takes_audio for cls in (AudioStage, Level, Counts, Names)] == [True, True, False, False]
    result = run(recordings(tmp_path, 3), Counts("counts"), Names("names"))
    assert [(record["window"], record["name"]) for record in result.records()] == [(3, "0"), (3, "1"), (3, "2")]
    assert result.summary["audio"] == {}


def test_samples_cannot_be_written_to(tmp_path: Path) -> None:
    class Writes(AudioStage):
        def process_audio(self, record: Record, audio: Audio) -> Record:
            samples = audio.samples() if record["number"] else audio.native()
            samples *= 2
            return record

    result = run(recordings(tmp_path, 2), Writes())
    assert [note.code for note in result.quarantined] == ["stage_error"] * 2
    assert all("read-only" in note.message for note in result.quarantined)


def test_durations_that_lie_are_corrected_counted_and_kept(tmp_path: Path) -> None:
    records = recordings(tmp_path, 4, 2.0)
    for record, claimed in zip(records, (0.06, 100_000, 2.05, None), strict=True):
        record["duration"] = claimed
    result = run(records, Level("a"), Level("b"))
    kept = list(result.records())
    assert [record["duration"] for record in kept] == [2.0] * 4
    assert [record.get("claimed_duration") for record in kept] == [0.06, 100_000, None, None]
    hours = result.summary["audio_hours"]
    assert hours["kept"] == pytest.approx(8 / 3600, abs=1e-6)
    assert hours["in"] + hours["measured"] == pytest.approx(hours["kept"], abs=2e-6)
    (measures,) = result.summary["audio"].values()
    assert measures["duration_mismatches"] == 2
    assert [example["claimed_s"] for example in measures["mismatch_examples"]] == [0.06, 100_000]
    failed = run(records, Level("a"), audio=AudioSettings(duration_mismatch="fail"))
    assert [(note.code, note.record["number"]) for note in failed.quarantined] == [
        ("duration_mismatch", 0),
        ("duration_mismatch", 1),
    ]


def test_a_split_parent_is_booked_with_its_true_length(tmp_path: Path) -> None:
    records = [{**record, "duration": 50.0} for record in recordings(tmp_path, 3, 1.0)]
    result = run(records, Halves().with_(checkpoint=False), Level("a"))
    hours = result.summary["audio_hours"]
    assert hours["split_parents"] == pytest.approx(3 / 3600, abs=1e-6)
    assert hours["children"] == pytest.approx(3 / 3600, abs=1e-6)


def test_segments_keep_their_duration(tmp_path: Path) -> None:
    path = write_noise(tmp_path / "a.flac", 3.0)
    segments = [{"audio_filepath": str(path), "offset": 0.5 * n, "duration": 0.5, "number": n} for n in range(6)]
    result = run(segments, Level("a"), Level("b"))
    assert [record["duration"] for record in result.records()] == [0.5] * 6


def test_eager_use_gives_what_a_run_gives(tmp_path: Path) -> None:
    records = recordings(tmp_path, 3)
    stage = Level("a")
    stage.setup()
    done = stage.process(AudioBatch([dict(record) for record in records]))
    assert isinstance(done, AudioBatch)
    eager = done.data
    heard = [{k: v for k, v in record.items() if k != ID} for record in run(records, Level("a")).records()]
    assert eager == heard


def test_audio_settings_reach_every_stage_and_the_fingerprint(tmp_path: Path) -> None:
    path = write_noise(tmp_path / "two.flac", 0.5, channels=2)
    record = {"audio_filepath": str(path), "number": 0}
    levels = [
        next(iter(run([record], Level("a"), audio=AudioSettings(channel=channel)).records()))["a"]
        for channel in ("mean", 0, 1)
    ]
    assert len(set(levels)) == 3
    plans = [
        Pipeline("p", [ReadRecords([record]), Level("a")], audio=audio).plan()
        for audio in (None, AudioSettings(), AudioSettings(channel=0))
    ]
    assert plans[0].fingerprint == plans[1].fingerprint != plans[2].fingerprint
    assert plans[2].to_dict()["audio"]["channel"] == 0


def test_no_memory_decodes_in_the_worker_itself(tmp_path: Path) -> None:
    result = run(recordings(tmp_path, 6), Level("a"), options=RunOptions(audio_memory_bytes=0))
    assert result.summary["kept"] == 6
    assert np.isfinite([record["a"] for record in result.records()]).all()


def test_segments_of_a_recording_that_fits_no_memory_are_decoded_once_into_a_spool(tmp_path: Path) -> None:
    path = write_noise(tmp_path / "long.mp3", 60.0)
    segments = [{"audio_filepath": str(path), "offset": 1.5 * n, "duration": 1.0, "number": n} for n in range(40)]
    stages = (Level("a"), Level("b"), Merge("out.jsonl"))
    little = run(segments, *stages, run_dir=tmp_path / "little", audio_memory="200kB")
    assert decodes(little) == {"level+level-2": 1}
    assert not (tmp_path / "little" / "spool").exists()
    run(segments, *stages, run_dir=tmp_path / "much")
    outputs = [(tmp_path / name / "out.jsonl").read_bytes() for name in ("little", "much")]
    assert outputs[0] == outputs[1]


def test_every_block_that_is_decoded_counts_as_progress(tmp_path: Path) -> None:
    class Counts(Announced):
        progressed = 0

        def progress(self) -> None:
            self.progressed += 1

    reporter = Counts()
    record = {ID: "r:1", "number": 0, "audio_filepath": str(write_noise(tmp_path / "long.flac", 60.0))}
    runner = StageGroupRunner([Level("a")], context=WorkerContext(), reporter=reporter)
    runner.setup()
    (result,) = runner.run(BatchTask(1, [record], "audio_filepath", "task", "set"))
    runner.teardown()
    assert len(result.kept) == 1
    assert reporter.progressed >= 60 * 16_000 // BLOCK_SAMPLES


def test_a_record_that_is_tried_alone_is_announced_at_the_stage_that_works_on_it(tmp_path: Path) -> None:
    class Levels(Announced):
        def __init__(self) -> None:
            super().__init__()
            self.at: dict[int, list[int]] = {}

        def announce(self, stage: int, positions: Sequence[int]) -> None:
            self.at[stage] = list(positions)

        def idle(self, stage: int) -> None:
            self.at.pop(stage, None)

    reporter = Levels()
    seen: list[dict[int, list[int]]] = []

    class Looks(Level):
        def process_audio(self, record: Record, audio: Audio) -> Record:
            seen.append(dict(reporter.at))
            return super().process_audio(record, audio)

    def work_on(count: int) -> None:
        seen.clear()
        data = [{**record, ID: f"r:{record['number']}"} for record in recordings(tmp_path, count, 0.05)]
        runner = StageGroupRunner([Looks("a"), marks, Looks("b")], context=WorkerContext(), reporter=reporter)
        runner.setup()
        list(runner.run(BatchTask(1, data, "audio_filepath", "task", "set")))
        runner.teardown()
        assert reporter.at == {}

    work_on(1)
    assert seen == [{0: [0]}, {2: [0]}]
    work_on(3)
    assert seen == [{0: [0, 1, 2]}, {0: [1, 2], 2: [0]}, {0: [1, 2]}, {0: [2], 2: [1]}, {0: [2]}, {2: [2]}]


@pytest.mark.processes
def test_a_crash_in_a_pass_convicts_the_guilty_record_at_its_stage_alone(tmp_path: Path) -> None:
    stages = (Level("a"), marks, Crashes((5,)), Level("b"))
    result = run(recordings(tmp_path, 40, 0.05), *stages, executor="multiprocessing")
    assert [(note.record["number"], note.stage, note.code) for note in result.quarantined] == [
        (5, "crashes", "worker_died")
    ]
    assert result.summary["kept"] == 39


def test_the_report_names_wrong_durations(tmp_path: Path) -> None:
    records = [{**record, "duration": 77.0} for record in recordings(tmp_path, 2, 0.5)]
    run(records, Level("a"), Merge("out.jsonl"), run_dir=tmp_path / "run")
    page = write_report(tmp_path / "run").read_text()
    assert "Wrong durations of 2 records" in page
    assert "77.000" in page


def test_the_report_plays_new_audio(tmp_path: Path) -> None:
    run(recordings(tmp_path, 2, 0.5), Louder(), Merge("out.jsonl"), run_dir=tmp_path / "run")
    page = write_report(tmp_path / "run").read_text()
    assert "outside_root" not in page
    assert "missing_file" not in page
