"""The stages that measure with a model: their contract, with engines made for the tests, and input at the extremes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile

from curate import Pipeline
from curate.audio_stage import AudioStage
from curate.errors import UsageError
from curate.models import Clip, EngineModel, WindowedModel, Windows
from curate.plugin import PluginHost
from curate.records import AudioBatch, Record
from curate.resolution import PluginLookup, Resolved
from curate.signal import EventDetector, QualityMeter, spread_windows
from curate.stage import ProcessingStage
from curate.stages import (
    AudioEvents,
    ReadRecords,
    SpeakerConsistency,
    SpeakerEmbedding,
    SpeechQuality,
    SpokenLanguage,
)
from curate.testing import (
    AudioModelContract,
    AudioStageContract,
    StageContract,
    write_broken,
    write_silence,
    write_tone,
)
from tests.unit.stages.test_signal_measures import EXTREMES, long_recording, write_noise


class Loudness:
    """A quality meter: how loud and how peaky a window is."""

    rate_hz = 16_000
    window_s = 2.0
    columns: Sequence[str] = ("loud", "peaky")
    seen: ClassVar[list[int]] = []

    def __init__(self, gain: float = 1.0) -> None:
        self._gain = gain

    def check(self) -> None: ...

    def fingerprint(self) -> Mapping[str, Any]:
        return {}

    def setup(self) -> None: ...

    def scores(self, window: np.ndarray) -> Sequence[float]:
        self.seen.append(len(window))
        assert window.dtype == np.float32 and np.abs(window).max() <= 1
        power = float(np.mean(window**2))
        return (self._gain * power, float(np.abs(window).max()) / max(power**0.5, 1e-9))


class Bands:
    """An event detector: loud frames are `loud`, and quiet ones `quiet`."""

    rate_hz = 8000
    frame_s = 0.1
    thresholds: Mapping[str, float] = {"loud": 0.5, "quiet": 0.5}

    def check(self) -> None: ...

    def fingerprint(self) -> Mapping[str, Any]:
        return {}

    def setup(self) -> None: ...

    def probabilities(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:  # of 30 s, but for the last one
            frames = np.pad(block, (0, -len(block) % 800)).reshape(-1, 800)
            loud = (np.abs(frames).max(axis=1) > 0.05).astype(np.float32)
            yield np.stack([loud, 1 - loud], axis=1)


class Spectrum(EngineModel):
    """An engine for voices: the energy in 16 bands."""

    writes = ("embedding",)
    longest: ClassVar[list[int]] = []

    def infer(self, clips: Sequence[Clip]) -> list[Mapping[str, Any]]:
        self.longest += [len(clip.samples) for clip in clips]
        return [{"embedding": np.abs(np.fft.rfft(clip.samples, 31)) + 1e-6} for clip in clips]


class Languages(EngineModel):
    """An engine for languages: loud is German."""

    writes = ("languages",)

    def infer(self, clips: Sequence[Clip]) -> list[Mapping[str, Any]]:
        shares = [min(1.0, float(np.abs(clip.samples).max())) for clip in clips]
        return [{"languages": {"deu": share, "eng": 1 - share}} for share in shares]


assert isinstance(Loudness(), QualityMeter)
assert isinstance(Bands(), EventDetector)


# Contracts run without plugins, so the stages bring their engines along.


@dataclass
class Quality(SpeechQuality):
    def resolve(self, host: PluginLookup) -> Any:
        return self.with_resolved(engine=Resolved(Loudness, "tests"))


@dataclass
class Events(AudioEvents):
    def resolve(self, host: PluginLookup) -> Any:
        return self.with_resolved(engine=Resolved(Bands, "tests"))


@dataclass
class Voices(SpeakerEmbedding):
    def resolve(self, host: PluginLookup) -> Any:
        return self.with_resolved(engine=Resolved(Spectrum, "tests"))


@dataclass
class Consistency(SpeakerConsistency):
    def resolve(self, host: PluginLookup) -> Any:
        return self.with_resolved(engine=Resolved(Spectrum, "tests"))


@dataclass
class Spoken(SpokenLanguage):
    def resolve(self, host: PluginLookup) -> Any:
        return self.with_resolved(engine=Resolved(Languages, "tests"))


STAGES: Mapping[str, Callable[[], ProcessingStage]] = {
    "speech_quality": lambda: Quality(hop_s=0.5, max_windows=4),
    "audio_events": Events,
    "speaker_embedding": lambda: Voices(window_s=0.7, max_windows=3),
    "speaker_consistency": lambda: Consistency(window_s=0.7, max_windows=3, least_s=0.3),
    "spoken_language": lambda: Spoken(window_s=1.0, max_windows=2),
}


def some_records(folder: Path) -> list[Record]:
    return [
        {"audio_filepath": str(write_tone(folder / "a.wav", 2.0))},
        {"audio_filepath": str(write_noise(folder / "stereo.flac", 4, 44_100, 2))},
        {"audio_filepath": str(write_noise(folder / "other.flac", 2, 44_100, 2)), "offset": 0.5, "duration": 1.2},
        {"audio_filepath": str(write_silence(folder / "s.wav"))},
        {"audio_filepath": str(write_broken(folder / "b.wav"))},
    ]


class TestSpeechQuality(AudioStageContract):
    def stage(self) -> AudioStage:
        return Quality(hop_s=0.5, max_windows=4)

    def records(self, folder: Path) -> list[Record]:
        return some_records(folder)


class TestAudioEvents(AudioStageContract):
    def stage(self) -> AudioStage:
        return Events()

    def records(self, folder: Path) -> list[Record]:
        return some_records(folder)


class TestSpeakerEmbedding(StageContract):
    def stage(self) -> ProcessingStage:
        return STAGES["speaker_embedding"]()

    def records(self, folder: Path) -> list[Record]:
        return some_records(folder)


class TestSpeakerConsistency(StageContract):
    def stage(self) -> ProcessingStage:
        return STAGES["speaker_consistency"]()

    def records(self, folder: Path) -> list[Record]:
        return some_records(folder)


class TestSpokenLanguage(StageContract):
    def stage(self) -> ProcessingStage:
        return STAGES["spoken_language"]()

    def records(self, folder: Path) -> list[Record]:
        return some_records(folder)


class TestWindowedModel(AudioModelContract):
    def model(self) -> WindowedModel:
        return WindowedModel(Spectrum(), Windows(0.4, 2, 0.1), ("count",), lambda parts: {"count": len(parts[0])})


def measured(stage: ProcessingStage, record: Record) -> Any:
    """Return the columns that a stage adds, or the code of the failure."""
    stage.setup()
    batch = AudioBatch([dict(record)])
    done = stage.process(batch)
    stage.teardown()
    assert isinstance(done, AudioBatch)
    if done.failed:
        return done.failed[0].error.code
    return {name: done.data[0][name] for name in stage.writes() or ()}


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, Mapping):
        yield from (number for each in value.values() for number in numbers(each))
    elif isinstance(value, list):
        yield from (number for each in value for number in numbers(each))
    elif isinstance(value, float):
        yield value


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("extreme", EXTREMES)
def test_extreme_audio_has_a_value_or_null_and_nothing_is_nan(name: str, extreme: str, tmp_path: Path) -> None:
    seconds, rate_hz, channels, gain = EXTREMES[extreme]
    path = write_noise(tmp_path / "x.wav", seconds, rate_hz, channels, gain)
    found = measured(STAGES[name](), {"audio_filepath": str(path)})
    assert isinstance(found, dict)
    assert np.isfinite(list(numbers(found))).all()
    if extreme in ("one_sample", "silence") and name != "audio_events":
        assert set(found.values()) == {None}


@pytest.mark.slow
def test_12_hours_cost_a_few_windows_in_bounded_memory(tmp_path: Path) -> None:
    import resource

    record = {"audio_filepath": str(long_recording(tmp_path / "long.wav", 12)), "duration": 12 * 3600.0}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for make in STAGES.values():
        Spectrum.longest.clear()
        found = measured(make(), record)
        assert np.isfinite(list(numbers(found))).all()
        assert any(value is not None for value in found.values())
        assert sum(Spectrum.longest) <= 7 * 16_000
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 300  # the samples at 16 kHz alone are 2,700 MB


def test_excerpts_of_a_long_recording_are_its_windows(tmp_path: Path) -> None:
    samples = np.repeat(np.linspace(0.1, 0.9, 100), 160).astype(np.float32)  # 1 s in 100 steps of 10 ms
    soundfile.write(tmp_path / "x.wav", samples, 16_000, subtype="FLOAT")
    windows = Windows(0.1, 3)
    assert windows.of(1.0) == [(0.0, 0.1), (0.45, 0.55), (0.9, 1.0)]
    assert windows.of(0.1) == [(0.0, 0.1)]
    assert [round(start, 3) for start, _ in windows.of(0.25)] == [0.0, 0.075, 0.15]
    model = WindowedModel(Spectrum(), windows, (), lambda parts: {})
    assert model.excerpts(0.3) is None
    assert model.excerpts(1.0) == windows.of(1.0)
    stage = Voices(window_s=0.1, max_windows=3, least_s=0.01)
    Spectrum.longest.clear()
    whole = measured(stage, {"audio_filepath": str(tmp_path / "x.wav")})
    segment = measured(stage, {"audio_filepath": str(tmp_path / "x.wav"), "offset": 0.0, "duration": 1.0})
    assert whole == segment
    assert Spectrum.longest == [1600] * 6


def test_windows_of_quality_are_every_hop_or_spread_over_all_of_a_recording() -> None:
    assert spread_windows(5.0, 9.01, 1.0, 30) == [(0.0, 5.0)]
    assert [start for start, _ in spread_windows(12.5, 9.01, 1.0, 30)] == [0.0, 1.0, 2.0, 3.0]
    spread = spread_windows(3600.0, 9.0, 1.0, 4)
    assert [start for start, _ in spread] == [0.0, 1197.0, 2394.0, 3591.0]
    assert spread_windows(100.0, 10.0, 1.0, 1) == [(45.0, 55.0)]


def test_a_short_recording_is_repeated_to_one_window(tmp_path: Path) -> None:
    Loudness.seen.clear()
    found = measured(Quality(), {"audio_filepath": str(write_tone(tmp_path / "a.wav", 1.3))})
    assert found["loud"] > 0
    assert Loudness.seen == [32_000]


def test_a_voice_is_like_itself_and_a_change_of_voices_is_not(tmp_path: Path) -> None:
    low, high = (np.sin(np.arange(16_000) * step).astype(np.float32) * 0.3 for step in (0.2, 1.5))
    for name, parts in (("same", [low, low]), ("other", [low, high])):
        soundfile.write(tmp_path / f"{name}.wav", np.concatenate(parts), 16_000)
    same, other = (
        measured(Consistency(), {"audio_filepath": str(tmp_path / f"{name}.wav")})["speaker_consistency"]
        for name in ("same", "other")
    )
    assert same > 0.98 > other


def test_languages_have_their_bcp_47_codes_and_the_mean_of_the_windows(tmp_path: Path) -> None:
    samples = np.concatenate([np.full(16_000, 0.9), np.full(16_000, 0.5)])
    soundfile.write(tmp_path / "x.wav", samples, 16_000, subtype="FLOAT")
    found = measured(Spoken(window_s=1.0), {"audio_filepath": str(tmp_path / "x.wav")})
    assert found == {"spoken_lang": "de", "spoken_lang_prob": 0.7}


def test_events_lie_where_the_sound_is(tmp_path: Path) -> None:
    samples = np.concatenate([np.zeros(16_000), 0.3 * np.ones(16_000), np.zeros(16_000)])
    soundfile.write(tmp_path / "x.wav", samples, 16_000)
    found = measured(Events(), {"audio_filepath": str(tmp_path / "x.wav")})
    assert [(each["event"], each["start"], each["end"]) for each in found["audio_events"]] == [
        ("quiet", 0.0, pytest.approx(1.0, abs=0.11)),
        ("loud", pytest.approx(1.0, abs=0.11), pytest.approx(2.0, abs=0.11)),
        ("quiet", pytest.approx(2.0, abs=0.11), 3.0),
    ]
    assert found["event_loud_ratio"] == pytest.approx(1 / 3, abs=0.04)


@pytest.mark.parametrize(
    ("stage", "remedy"),
    [
        (SpeechQuality(), "pip install curate-dnsmos"),
        (AudioEvents(), "pip install curate-omnivad"),
        (SpeakerEmbedding(), "pip install curate-speaker"),
        (SpeakerConsistency(), "pip install curate-speaker"),
        (SpokenLanguage(engine="whisper"), "unknown audio engine 'whisper'"),
        (SpokenLanguage(), "options"),
        (Quality(hop_s=0), "hop_s"),
        (Quality(options={"colour": 1}), "colour"),
        (Events(thresholds={"whale": 0.5}), "whale"),
        (Events(thresholds={"loud": 2}), "threshold"),
        (Voices(window_s=0), "window_s"),
        (Voices(options={"colour": 1}), "colour"),
    ],
)
def test_a_missing_engine_or_a_wrong_setting_is_refused_when_the_pipeline_is_planned(
    stage: ProcessingStage, remedy: str, tmp_path: Path
) -> None:
    records = [{"audio_filepath": str(write_tone(tmp_path / "a.wav"))}]
    bare = PluginHost(environment={"CURATE_PLUGINS": ""})
    with pytest.raises(UsageError, match=remedy):
        Pipeline("p", [ReadRecords(records), stage]).plan(host=bare)
