"""The contract of the stages that measure in one pass, that make new audio, and that join parts."""

from __future__ import annotations

from pathlib import Path

from curate.records import Record
from curate.stage import Stage
from curate.stages import AudioProfile, Denoise, JoinParts, NormaliseLoudness
from curate.testing import StageContract, write_broken, write_silence, write_tone
from tests.unit.stages.test_signal_measures import write_noise


def some_records(folder: Path) -> list[Record]:
    return [
        {"audio_filepath": str(write_tone(folder / "a.wav", 2.0))},
        {"audio_filepath": str(write_noise(folder / "stereo.flac", 2, 44_100, 2))},
        {"audio_filepath": str(write_noise(folder / "other.flac", 2, 44_100, 2)), "offset": 0.5, "duration": 1.2},
        {"audio_filepath": str(write_silence(folder / "s.wav"))},
        {"audio_filepath": str(write_broken(folder / "b.wav"))},
    ]


class TestAudioProfile(StageContract):
    def stage(self) -> Stage:
        return AudioProfile()

    def records(self, folder: Path) -> list[Record]:
        return some_records(folder)


class TestDenoise(StageContract):
    makes_audio = True

    def stage(self) -> Stage:
        return Denoise(max_snr_db=None)

    def records(self, folder: Path) -> list[Record]:
        return some_records(folder)


class TestNormaliseLoudness(StageContract):
    makes_audio = True

    def stage(self) -> Stage:
        return NormaliseLoudness()

    def records(self, folder: Path) -> list[Record]:
        return some_records(folder)


class TestJoinParts(StageContract):
    """Of records that were not split; what becomes of parts is in test_join_parts."""

    def stage(self) -> Stage:
        return JoinParts()

    def records(self, folder: Path) -> list[Record]:
        return [
            {"audio_filepath": "a.wav", "duration": 1.0, "text": "one", "words": [{"word": "one", "start": 0.2}]},
            {"audio_filepath": "b.wav", "offset": 2.0, "duration": 1.0, "text": "two", "part": 0},
            {"audio_filepath": "c.wav", "duration": 3.0, "segments": [[0.0, 1.0]]},
        ]
