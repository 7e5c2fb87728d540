"""Audio stages for tests of passes, with the calls that they have seen; and recordings for them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import soundfile

from curate import AudioStage, Reject
from curate.audio import Audio
from curate.records import Record


def write_noise(path: Path, seconds: float = 0.5, *, rate_hz: int = 16_000, seed: int = 0, channels: int = 1) -> Path:
    """Write noise, as FLAC or what the suffix says, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = round(seconds * rate_hz)
    noise = np.random.default_rng(seed).normal(0, 0.1, (frames, channels)).clip(-1, 1)
    soundfile.write(path, noise, rate_hz)
    return path


def recordings(folder: Path, count: int, seconds: float = 0.5) -> list[Record]:
    """Return records of as many FLAC files."""
    return [
        {"audio_filepath": str(write_noise(folder / f"{number}.flac", seconds, seed=number)), "number": number}
        for number in range(count)
    ]


@dataclass
class Level(AudioStage):
    """Writes the level of the audio to a column of its own."""

    column: str = "level"
    seen: ClassVar[list[str]] = []

    def writes(self) -> tuple[str, ...]:
        return (self.column,)

    def process_audio(self, record: Record, audio: Audio) -> Record:
        self.seen.append(f"{self.column} {record['number']}")
        samples = audio.samples()
        return {**record, self.column: round(float(np.sqrt(np.mean(samples * samples))), 6)}


@dataclass
class Odd(AudioStage):
    """Rejects every odd record."""

    cardinality = "filters"

    def process_audio(self, record: Record, audio: Audio) -> Record | Reject:
        return Reject("odd") if record["number"] % 2 else record


@dataclass
class Halves(AudioStage):
    """Splits a recording into its halves."""

    cardinality = "splits"

    def process_audio(self, record: Record, audio: Audio) -> Iterable[Record]:
        half_s = round(audio.duration_s / 2, 6)
        yield {**record, "offset": 0.0, "duration": half_s}
        yield {**record, "offset": half_s, "duration": half_s}


@dataclass
class Fails(AudioStage):
    """Raises on some records, so often."""

    numbers: tuple[int, ...] = ()
    times: int = 1_000
    calls: dict[int, int] = field(default_factory=dict[int, int], repr=False)

    def process_audio(self, record: Record, audio: Audio) -> Record:
        number = record["number"]
        record["spoilt"] = True
        self.calls[number] = self.calls.get(number, 0) + 1
        if number in self.numbers and self.calls[number] <= self.times:
            raise ValueError("no")
        del record["spoilt"]
        return record


@dataclass
class Louder(AudioStage):
    """Writes new audio at another level."""

    gain: float = 0.5

    def writes(self) -> tuple[str, ...]:
        return ("duration",)

    def process_audio(self, record: Record, audio: Audio) -> Record:
        return self.context.new_audio(record, self.gain * audio.samples(), 16_000)


@dataclass
class Crashes(AudioStage):
    """Kills its process on some records."""

    numbers: tuple[int, ...] = ()

    def process_audio(self, record: Record, audio: Audio) -> Record:
        if record["number"] in self.numbers:
            os.abort()
        return record
