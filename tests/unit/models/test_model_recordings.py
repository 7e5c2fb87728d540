"""Models decode through the worker's recordings, once a recording, and true lengths replace claimed ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from curate import AudioBatch, AudioStage, Pipeline
from curate.audio import AudioSettings
from curate.executors.multiprocessing import MultiprocessingExecutor
from curate.records import Record
from curate.stages import ReadRecords
from tests.unit.stages.stub_recogniser import StubAsrStage

RATE_HZ = 8000


@pytest.fixture
def long_mp3(tmp_path: Path) -> str:
    """Return a recording of 150 s in a format without exact seeking, too long to be held without the spool."""
    path = tmp_path / "long.mp3"
    samples = np.random.default_rng(0).normal(0, 0.1, 150 * RATE_HZ).astype(np.float32)
    soundfile.write(path, samples, RATE_HZ, format="MP3", subtype="MPEG_LAYER_III")
    return str(path)


def windows(path: str, count: int = 30) -> list[Record]:
    """Return segments of different lengths, so that the planner takes them in another order."""
    return [{"audio_filepath": path, "offset": 5.0 * n, "duration": 1.0 + 0.25 * (n * 7 % 13)} for n in range(count)]


def wav(folder: Path, name: str, seconds: float) -> str:
    path = folder / name
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE_HZ)), RATE_HZ)
    return str(path)


def audio_figures(result: Any) -> dict[str, Any]:
    [figures] = result.summary["audio"].values()
    return figures


@pytest.mark.parametrize("executor", ["local", MultiprocessingExecutor()])
def test_windows_of_a_long_recording_are_cut_from_one_decoding(long_mp3: str, executor: Any, tmp_path: Path) -> None:
    stage = StubAsrStage(max_batch_s=8.0).with_(workers=2)
    records = windows(long_mp3)
    result = Pipeline("p", [ReadRecords(records), stage]).run(executor, run_dir=tmp_path / "run", audio_memory="1MB")
    kept = list(result.records())
    assert [record["pred_text"] for record in kept] == [str(round(1000 * record["duration"])) for record in records]
    assert audio_figures(result)["decodes"] == 1
    assert not list((tmp_path / "run").rglob("spool/*/*")), "the spool is gone at the end"


def test_eager_use_decodes_once_and_leaves_nothing_behind(long_mp3: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "temporary").mkdir()
    stage = StubAsrStage(max_batch_s=8.0)
    stage.setup()
    done = [stage.process(AudioBatch(windows(long_mp3)[n::3])).data for n in range(3)]
    [cache] = stage._runner._recordings._caches.values()  # type: ignore[union-attr]
    assert (sum(map(len, done)), cache.decodes) == (30, 1)
    stage.teardown()
    assert not list((tmp_path / "temporary").rglob("*")), "its spool is deleted"


@pytest.fixture
def lying(tmp_path: Path) -> list[Record]:
    return [
        {"audio_filepath": wav(tmp_path, "60.wav", 6.0), "duration": 2.0},
        {"audio_filepath": wav(tmp_path, "2.wav", 2.0), "duration": 100_000},
        {"audio_filepath": wav(tmp_path, "1.wav", 1.0), "duration": 1.001},
        {"audio_filepath": wav(tmp_path, "3.wav", 3.0)},
        {"audio_filepath": wav(tmp_path, "4.wav", 4.0), "offset": 1.0, "duration": 1.5},
        {"audio_filepath": wav(tmp_path, "0.wav", 0.2), "duration": 2.5},
    ]


def test_true_lengths_replace_claims_in_a_pipeline_of_asr_alone(lying: list[Record]) -> None:
    result = Pipeline("p", [ReadRecords(lying), StubAsrStage()]).run()
    kept = list(result.records())
    assert [record["duration"] for record in kept] == [6.0, 2.0, 1.0, 3.0, 1.5, 0.2]
    assert [record.get("claimed_duration") for record in kept] == [2.0, 100_000.0, None, None, None, 2.5]
    assert [record["pred_text"] for record in kept] == ["6000", "2000", "1000", "3000", "1500", "200"]
    figures = audio_figures(result)
    assert (figures["decodes"], figures["duration_mismatches"]) == (6, 3)
    assert {example["claimed_s"] for example in figures["mismatch_examples"]} == {2.0, 100_000.0, 2.5}
    assert result.summary["audio_hours"]["kept"] == pytest.approx(13.7 / 3600, abs=1e-5)


def test_bounds_go_by_the_true_length(lying: list[Record]) -> None:
    for strategy in ("length", "static", "duration", "bucket"):
        stage = StubAsrStage(batching=strategy, min_s=0.5, max_s=5.0)
        result = Pipeline("p", [ReadRecords(lying), stage]).run()
        assert [record["duration"] for record in result.records()] == [2.0, 1.0, 3.0, 1.5], strategy
        reasons = sorted((note.record["duration"], note.reason) for note in result.filtered)
        assert reasons == [(0.2, "shorter than 0.5 s"), (6.0, "longer than 5 s")], strategy


def test_a_claim_out_of_range_costs_no_decoding_where_the_header_confirms_it(tmp_path: Path) -> None:
    records = [{"audio_filepath": wav(tmp_path, f"{n}.wav", 6.0), "duration": 6.0} for n in range(5)]
    records.append({"audio_filepath": wav(tmp_path, "short.wav", 1.0), "duration": 1.0})
    records.append({"audio_filepath": str(tmp_path / "missing.wav"), "duration": 99.0})
    result = Pipeline("p", [ReadRecords(records), StubAsrStage(max_s=5.0)]).run()
    assert (result.summary["kept"], result.summary["filtered"]) == (1, 5)
    assert [note.code for note in result.quarantined] == ["missing_file"], "a claim that cannot be checked"
    assert audio_figures(result)["decodes"] == 1


def test_a_wrong_claim_fails_where_the_settings_ask_for_it(lying: list[Record]) -> None:
    settings = AudioSettings(duration_mismatch="fail")
    result = Pipeline("p", [ReadRecords(lying), StubAsrStage(max_s=5.0)], audio=settings).run()
    assert [(note.code, note.record["duration"]) for note in result.quarantined] == [
        ("duration_mismatch", 2.0),
        ("duration_mismatch", 100_000),
        ("duration_mismatch", 2.5),
    ]
    assert [record["duration"] for record in result.records()] == [1.0, 3.0, 1.5]


class Listens(AudioStage):
    def process_audio(self, record: Record, audio: Any) -> Record:
        return {**record, "listened_s": audio.duration_s}

    def writes(self) -> tuple[str, ...]:
        return ("listened_s",)


def test_a_pass_before_a_model_shares_the_recordings_of_segments(long_mp3: str, tmp_path: Path) -> None:
    stages = [ReadRecords(windows(long_mp3)), Listens(), StubAsrStage(max_batch_s=8.0)]
    result = Pipeline("p", stages).run(run_dir=tmp_path / "run", audio_memory="1MB")
    assert result.summary["kept"] == 30
    assert audio_figures(result)["decodes"] == 1
