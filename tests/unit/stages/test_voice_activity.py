"""Where speech is: real clips with known pauses, short words, and sound that is not speech."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from curate import Pipeline
from curate.audio_stage import AudioStage
from curate.errors import UsageError
from curate.plugin import PluginHost, use_host
from curate.records import AudioBatch, Record
from curate.signal import VoiceDetector
from curate.stages import ReadRecords, VoiceActivity
from curate.testing import AudioStageContract, write_broken, write_silence, write_tone
from tests.unit.signal.real_speech import clips, needs_speech, resampled, white_noise
from tests.unit.stages.long_speech import RATE_HZ, LongSpeech, long_speech, mask

PLUGIN = Path(__file__).parents[3] / "plugins" / "curate-silero" / "curate_silero" / "plugin.py"
SILERO = all(importlib.util.find_spec(name) for name in ("onnxruntime", "silero_vad", "curate_silero"))

silero = pytest.param("silero", marks=pytest.mark.skipif(not SILERO, reason="needs onnxruntime and silero-vad"))
webrtc = pytest.param(
    "webrtc", marks=pytest.mark.skipif(importlib.util.find_spec("webrtcvad") is None, reason="needs webrtcvad")
)


@cache
def host() -> PluginHost:
    return PluginHost(environment={"CURATE_PLUGINS": ""}, plugin_files=[PLUGIN] if SILERO else [])


@cache
def half_an_hour() -> LongSpeech:
    return long_speech(30)


def detect(samples: np.ndarray, folder: Path, rate_hz: int = RATE_HZ, **settings: Any) -> Record:
    path = folder / "x.wav"
    soundfile.write(path, samples, rate_hz, subtype="PCM_16")
    with use_host(host()):
        stage = VoiceActivity(**settings)
        stage.setup()
        done = stage.process(AudioBatch([{"audio_filepath": str(path)}]))
    assert isinstance(done, AudioBatch)
    assert not done.failed
    return done.data[0]


class TestVoiceActivity(AudioStageContract):
    def stage(self) -> AudioStage:
        return VoiceActivity(engine="energy")

    def records(self, folder: Path) -> list[Record]:
        noise = (0.2 * white_noise(44_100)).reshape(-1, 1) * np.array([[1.0, 0.5]])
        for name in ("n.flac", "m.flac"):
            soundfile.write(folder / name, np.concatenate([0 * noise, noise, 0 * noise]), 44_100)
        return [
            {"audio_filepath": str(write_tone(folder / "a.wav", 2.0))},
            {"audio_filepath": str(folder / "n.flac")},
            {"audio_filepath": str(folder / "m.flac"), "offset": 0.5, "duration": 1.2},
            {"audio_filepath": str(write_silence(folder / "s.wav"))},
            {"audio_filepath": str(write_broken(folder / "b.wav"))},
        ]


@needs_speech
@pytest.mark.slow
@pytest.mark.parametrize("engine", [silero, webrtc])
def test_half_an_hour_of_clips_is_found_and_little_else(engine: str, tmp_path: Path) -> None:
    made = half_an_hour()
    found = detect(made.samples, tmp_path, engine=engine, pad_s=0.3)
    duration_s = len(made.samples) / RATE_HZ
    truth, speech = mask(made.speech, duration_s), mask(found["speech"], duration_s)
    inside, outside = (speech & truth).sum() / truth.sum(), (speech & ~truth).sum() / speech.sum()
    print(f"\n{engine}: {inside:.1%} of speech inside segments, {outside:.1%} of segments outside speech")
    assert inside >= 0.97
    assert outside <= 0.13
    missed = [name for name, start, end in made.clips if not speech[round(start * 1000) : round(end * 1000)].any()]
    assert missed == []
    assert found["speech_s"] == pytest.approx(speech.sum() / 1000, abs=0.01)
    assert found["speech_ratio"] == pytest.approx(found["speech_s"] / duration_s, abs=1e-4)


def short_word() -> np.ndarray:
    """Return 0.4 s of a word, from its onset, out of a recorded clip."""
    samples, _ = clips(RATE_HZ)["cards_004"]
    level = np.convolve(samples**2, np.ones(1600) / 1600, mode="same")
    middle = int(np.argmax(level))
    return samples[max(0, middle - 3200) : middle + 3200]


@needs_speech
@pytest.mark.parametrize("engine", [silero, webrtc, "energy"])
def test_a_recorded_word_of_04_s_between_pauses_survives(engine: str, tmp_path: Path) -> None:
    samples = 1e-4 * white_noise(6 * RATE_HZ)
    word = short_word()
    samples[3 * RATE_HZ : 3 * RATE_HZ + len(word)] += word
    found = detect(samples, tmp_path, engine=engine)
    assert any(start < 3.3 and end > 3.1 for start, end in found["speech"]), found
    assert found["speech_s"] < 1.5


@needs_speech
@pytest.mark.parametrize("engine", [silero, webrtc, "energy"])
def test_sound_only_above_8_khz_in_a_48_khz_file_is_not_speech(engine: str, tmp_path: Path) -> None:
    samples, own_hz = clips()["2412-153948-0000"]
    speech = resampled(samples, own_hz, 48_000)[: 8 * 48_000]
    time = np.arange(len(speech)) / 48_000
    spectrum = np.fft.rfft(2 * speech * np.cos(2 * np.pi * 16_000 * time))
    hz = np.fft.rfftfreq(len(speech), 1 / 48_000)
    spectrum[(hz < 8300) | (hz > 16_000)] = 0
    shifted = np.fft.irfft(spectrum, len(speech))
    assert np.sqrt(np.mean(shifted**2)) > 0.01
    assert detect(shifted, tmp_path, 48_000, engine=engine)["speech"] == []
    assert detect(speech, tmp_path, 48_000, engine=engine)["speech_ratio"] > 0.5


@needs_speech
@pytest.mark.parametrize("engine", [silero, webrtc])
def test_white_noise_and_silence_are_not_speech(engine: str, tmp_path: Path) -> None:
    for samples in (0.1 * white_noise(5 * RATE_HZ), np.zeros(5 * RATE_HZ), np.zeros(1)):
        if engine == "webrtc" and samples.any():
            continue  # it takes loud noise for speech
        found = detect(samples, tmp_path, engine=engine)
        assert (found["speech"], found["speech_s"], found["speech_ratio"]) == ([], 0.0, 0.0)


@pytest.mark.skipif(not SILERO, reason="needs onnxruntime and silero-vad")
def test_an_unknown_engine_or_option_is_refused_when_the_pipeline_is_planned(tmp_path: Path) -> None:
    records = [{"audio_filepath": str(write_tone(tmp_path / "a.wav"))}]

    def planned(host: PluginHost, **settings: Any) -> None:
        Pipeline("p", [ReadRecords(records), VoiceActivity(**settings)]).plan(host=host)

    bare = PluginHost(environment={"CURATE_PLUGINS": ""})
    planned(host(), engine="silero")
    with pytest.raises(UsageError, match="pip install curate-silero"):
        planned(bare, engine="silero")
    with pytest.raises(UsageError, match="energy"):
        planned(bare, engine="energi")
    with pytest.raises(UsageError, match="mode"):
        planned(bare, engine="webrtc", options={"mode": 4})
    with pytest.raises(UsageError, match="colour"):
        planned(bare, engine="energy", options={"colour": 1})
    with pytest.raises(UsageError, match="end_threshold"):
        planned(bare, engine="energy", end_threshold=0.9)
    with pytest.raises(UsageError, match="there is no model"):
        planned(host(), engine="silero", options={"model": "nowhere.onnx"})


@pytest.mark.skipif(not SILERO, reason="needs onnxruntime and silero-vad")
@needs_speech
def test_silero_gives_the_same_probabilities_frame_by_frame_and_in_sequence() -> None:
    folder = Path(importlib.util.find_spec("silero_vad").submodule_search_locations[0]) / "data"  # type: ignore
    make: Any = host().voice_detector("silero").load()
    samples, _ = clips(RATE_HZ)["jfk"]
    found: list[np.ndarray] = []
    for file, block in (("silero_vad_16k_sequence.onnx", 10**9), ("silero_vad.onnx", 5000)):
        if not (folder / file).is_file():
            pytest.skip(f"this silero-vad has no {file}")
        detector: VoiceDetector = make(model=str(folder / file))
        detector.setup()
        pieces = detector.probabilities(samples[at : at + block] for at in range(0, len(samples), block))
        found.append(np.concatenate(list(pieces)))
    assert len(found[0]) == -(-len(samples) // 512)
    assert np.abs(found[0] - found[1]).max() < 1e-3


@pytest.mark.parametrize("executor", ["local", pytest.param("multiprocessing", marks=pytest.mark.processes)])
@pytest.mark.parametrize("engine", [silero, "energy"])
@needs_speech
def test_segments_are_the_same_on_every_executor(executor: str, engine: str, tmp_path: Path) -> None:
    for number, (samples, rate_hz) in enumerate(clips().values()):
        soundfile.write(tmp_path / f"{number}.wav", samples, rate_hz)
    records = [{"audio_filepath": str(path)} for path in sorted(tmp_path.glob("*.wav"))]
    pipeline = Pipeline("p", [ReadRecords(records), VoiceActivity(engine=engine)])
    alone = list(pipeline.run(host=host()).records())
    assert list(pipeline.run(host=host(), executor=executor, run_dir=tmp_path / "run").records()) == alone
    assert all(row["speech"] for row in alone)
