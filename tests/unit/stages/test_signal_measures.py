"""The stages that measure signals: their contract, their columns, and input at the ends of what is possible."""

from __future__ import annotations

from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from curate import Pipeline
from curate.audio_stage import AudioStage
from curate.errors import PlanError
from curate.records import AudioBatch, Record
from curate.stages import (
    AudioBandwidth,
    AudioLevels,
    AudioProfile,
    Merge,
    QualityFilter,
    ReadRecords,
    SpeechSnr,
    VoicePitch,
)
from curate.testing import AudioStageContract, write_broken, write_silence, write_tone

MEASURES: dict[str, Callable[[], AudioStage]] = {
    "audio_levels": AudioLevels,
    "snr": SpeechSnr,
    "bandwidth": AudioBandwidth,
    "pitch": VoicePitch,
}


def write_noise(path: Path, seconds: float, rate_hz: int = 16_000, channels: int = 1, gain: float = 0.1) -> Path:
    shape = (round(seconds * rate_hz), channels)
    soundfile.write(path, gain * np.random.default_rng(0).standard_normal(shape), rate_hz, subtype="PCM_16")
    return path


class _Contract(AudioStageContract):
    def records(self, folder: Path) -> list[Record]:
        stereo = write_noise(folder / "stereo.flac", 2, 44_100, 2)
        return [
            {"audio_filepath": str(write_tone(folder / "a.wav", 2.0))},
            {"audio_filepath": str(stereo), "speech": [[0.2, 1.0]]},
            {"audio_filepath": str(write_noise(folder / "other.flac", 2, 44_100, 2)), "offset": 0.5, "duration": 1.2},
            {"audio_filepath": str(write_silence(folder / "s.wav"))},
            {"audio_filepath": str(write_broken(folder / "b.wav"))},
        ]


class TestAudioLevels(_Contract):
    def stage(self) -> AudioStage:
        return AudioLevels()


class TestAudioLevelsWithoutLoudness(_Contract):
    def stage(self) -> AudioStage:
        return AudioLevels(loudness=False)


class TestSpeechSnr(_Contract):
    def stage(self) -> AudioStage:
        return SpeechSnr()


class TestAudioBandwidth(_Contract):
    def stage(self) -> AudioStage:
        return AudioBandwidth()


class TestVoicePitch(_Contract):
    def stage(self) -> AudioStage:
        return VoicePitch()


def measured(stage: AudioStage, record: Record) -> Any:
    """Return the columns that a stage adds, or the code of the failure."""
    stage.setup()
    done = stage.process(AudioBatch([dict(record)]))
    assert isinstance(done, AudioBatch)
    if done.failed:
        return done.failed[0].error.code
    return {name: done.data[0][name] for name in stage.writes() or ()}


EXTREMES: dict[str, tuple[float, int, int, float]] = {
    "one_sample": (1 / 16_000, 16_000, 1, 0.1),
    "silence": (3.0, 16_000, 1, 0.0),
    "1_kHz": (3.0, 1000, 1, 0.1),
    "384_kHz": (1.0, 384_000, 1, 0.1),
    "24_channels": (1.0, 16_000, 24, 0.1),
    "full_scale": (1.0, 16_000, 1, 100.0),
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("extreme", EXTREMES)
def test_extreme_audio_is_measured_or_null_and_nothing_is_nan(measure: str, extreme: str, tmp_path: Path) -> None:
    seconds, rate_hz, channels, gain = EXTREMES[extreme]
    path = write_noise(tmp_path / "x.wav", seconds, rate_hz, channels, gain)
    found = measured(MEASURES[measure](), {"audio_filepath": str(path)})
    assert isinstance(found, dict)
    for name, value in found.items():
        assert value is None or (type(value) in (int, float) and np.isfinite(value)), (name, value)


def test_silence_is_null_in_every_measure_that_has_no_value_for_it(tmp_path: Path) -> None:
    record = {"audio_filepath": str(write_silence(tmp_path / "s.wav", 3.0))}
    levels = measured(AudioLevels(), record)
    assert levels["peak_dbfs"] is levels["rms_dbfs"] is levels["loudness_lufs"] is None
    assert (levels["zero_ratio"], levels["clipped_ratio"]) == (1.0, 0.0)
    assert measured(SpeechSnr(), record) == {"snr_db": None, "snr_wada_db": None}
    assert measured(AudioBandwidth(), record) == {"bandwidth_hz": None, "bandwidth_confidence": None}
    assert measured(VoicePitch(), record)["pitch_hz"] is None


def test_levels_are_those_of_the_file_and_not_of_its_mean(tmp_path: Path) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000)
    soundfile.write(tmp_path / "x.wav", np.stack([0.5 * tone, -0.5 * tone], axis=1), 16_000)
    found = measured(AudioLevels(), {"audio_filepath": str(tmp_path / "x.wav")})
    assert found["peak_dbfs"] == pytest.approx(-6.02, abs=0.05)
    assert found["channel_correlation"] == -1.0


def test_levels_of_a_record_that_names_a_channel_are_those_of_the_channel(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    soundfile.write(tmp_path / "call.wav", np.stack([tone, 0.01 * tone], axis=1), 16_000, subtype="FLOAT")
    stage = AudioLevels(loudness=False)
    stage.setup()
    records = [{"audio_filepath": str(tmp_path / "call.wav"), "channel": channel} for channel in (0, 1, None)]
    loud, quiet, both = stage.process(AudioBatch(records)).data
    assert loud["rms_dbfs"] == pytest.approx(-9.03, abs=0.01)
    assert quiet["rms_dbfs"] == pytest.approx(loud["rms_dbfs"] - 40, abs=0.01)
    assert quiet["channel_balance_db"] is None and both["channel_balance_db"] == pytest.approx(40, abs=0.01)


@pytest.mark.parametrize("speech", [[[0, 1], [0.5, 2]], [[1, 0]], [0, 1], "all", [[0, float("nan")]], [[0, 1, 2]]])
def test_segments_that_are_not_segments_fail_the_record(speech: object, tmp_path: Path) -> None:
    path = write_noise(tmp_path / "x.wav", 2)
    assert measured(SpeechSnr(), {"audio_filepath": str(path), "speech": speech}) == "bad_value"


def test_loudness_without_its_library_is_refused_when_the_pipeline_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "pyloudnorm" else find_spec(name))
    with pytest.raises(PlanError, match=r"curate-speech\[loudness\]"):
        AudioLevels().check()
    AudioLevels(loudness=False).check()


def long_recording(path: Path, hours: float, rate_hz: int = 8000) -> Path:
    minute = (0.05 * np.random.default_rng(0).standard_normal(60 * rate_hz)).astype(np.float32)
    minute[20 * rate_hz : 40 * rate_hz] *= 0.01
    with soundfile.SoundFile(path, "w", rate_hz, 1, "PCM_16") as file:
        for _ in range(round(hours * 60)):
            file.write(minute)
    return path


@pytest.mark.parametrize(
    "hours", [pytest.param(3, marks=pytest.mark.slow), pytest.param(12, marks=pytest.mark.soak)], ids="{}h".format
)
@pytest.mark.parametrize("measure", MEASURES)
def test_hours_of_audio_are_measured_in_bounded_memory(measure: str, hours: int, tmp_path: Path) -> None:
    import resource

    path = long_recording(tmp_path / "long.wav", hours)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = measured(MEASURES[measure](), {"audio_filepath": str(path)})
    assert all(value is None or np.isfinite(value) for value in found.values())
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 400  # the samples at 16 kHz alone are 690 MB in 3 hours


@pytest.mark.parametrize("executor", ["local", pytest.param("multiprocessing", marks=pytest.mark.processes)])
def test_measures_share_one_decoding_and_have_the_same_bytes_everywhere(executor: str, tmp_path: Path) -> None:
    records: list[Record] = [
        {"audio_filepath": str(write_noise(tmp_path / f"{n}.flac", 1 + n / 2, 22_050, 1 + n % 2))} for n in range(6)
    ]
    stages = [make() for make in MEASURES.values()]
    written: list[bytes] = []
    for place in ("local", executor):
        run_dir = tmp_path / f"run-{len(written)}"
        result = Pipeline("measures", [ReadRecords(records), *stages, Merge("out.jsonl")]).run(
            executor=place, run_dir=run_dir
        )
        assert [each["decodes"] for each in result.summary["audio"].values()] == [len(records)]
        written.append((run_dir / "out.jsonl").read_bytes())
    assert written[0] == written[1]
    assert b"NaN" not in written[0] and b"Infinity" not in written[0]


def test_the_profile_is_all_measures_in_one_pass_that_ends_a_phase(tmp_path: Path) -> None:
    records: list[Record] = [
        {"audio_filepath": str(write_noise(tmp_path / f"{n}.flac", 2, gain=0.01 * (n + 1)))} for n in range(4)
    ]
    pipeline = Pipeline("profile", [ReadRecords(records), AudioProfile(), QualityFilter("rms_dbfs >= -35")])
    assert len(pipeline.plan().phases) == 2
    result = pipeline.run()
    assert sum(each.get("decodes", 0) for each in result.summary["audio"].values()) == len(records)
    rows = list(result.records())
    assert 0 < len(rows) < len(records)
    columns = {name for make in MEASURES.values() for name in make().writes() or ()}
    assert all(columns <= set(row) for row in rows)
    assert [part.name for part in AudioProfile(pitch=False, loudness=False).parts()] == [
        "audio_profile.audio_levels",
        "audio_profile.snr",
        "audio_profile.bandwidth",
    ]
