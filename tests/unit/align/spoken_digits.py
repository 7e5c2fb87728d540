"""Spoken digits whose true times are known, because recordings of single digits are put one after the other.

`spoken_digits.ogg` holds each digit in four voices of espeak-ng. `python -m tests.unit.align.spoken_digits` makes it
anew, with espeak-ng and the code by which the quickstart's corpus was made.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import attrs
import numpy as np
import soundfile

RATE_HZ = 16_000
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
VOICES = ("en-us", "en-gb", "en-us+f3", "en-gb+m3")
FILE = Path(__file__).with_name("spoken_digits.ogg")
QUICKSTART = Path(__file__).parents[3] / "pipelines" / "quickstart"

Samples = np.ndarray


@attrs.frozen(eq=False)
class Speech:
    """Digits one after the other, with the true start and end of each in seconds."""

    samples: Samples
    words: list[str]
    times: list[tuple[float, float]]

    @property
    def text(self) -> str:
        return " ".join(self.words)


@cache
def bank() -> dict[tuple[str, str], Samples]:
    """Return the recordings by voice and digit."""
    samples, rate_hz = soundfile.read(FILE, dtype="float32")
    assert rate_hz == RATE_HZ
    spans = json.loads(FILE.with_suffix(".json").read_text())
    return {(voice, digit): samples[start:end] for voice, digit, start, end in spans}


def speak(words: Sequence[str], seed: int, *, noise: float = 0.002) -> Speech:
    """Return digits in one voice, with pauses of up to 0.2 s between them, 0.3 s before and behind, and white noise."""
    choose = random.Random(seed)
    voice = VOICES[seed % len(VOICES)]
    parts: list[Samples] = [np.zeros(int(0.3 * RATE_HZ), np.float32)]
    times: list[tuple[float, float]] = []
    at = len(parts[0])
    for word in words:
        part, pause = bank()[voice, word], np.zeros(int(choose.uniform(0.0, 0.2) * RATE_HZ), np.float32)
        times.append((at / RATE_HZ, (at + len(part)) / RATE_HZ))
        at += len(part) + len(pause)
        parts += [part, pause]
    samples = np.concatenate([*parts, np.zeros(int(0.3 * RATE_HZ), np.float32)])
    samples += np.random.default_rng(seed).normal(0.0, noise, len(samples)).astype(np.float32)
    return Speech(samples, list(words), times)


def draw(seed: int, count: int = 8) -> list[str]:
    """Return random digits."""
    return random.Random(1000 + seed).choices(DIGITS, k=count)


def join(speeches: Sequence[Speech]) -> Speech:
    """Return one recording of several."""
    words: list[str] = []
    times: list[tuple[float, float]] = []
    at_s = 0.0
    for one in speeches:
        words += one.words
        times += [(at_s + start, at_s + end) for start, end in one.times]
        at_s += len(one.samples) / RATE_HZ
    return Speech(np.concatenate([one.samples for one in speeches]), words, times)


def main() -> None:
    sys.path.insert(0, str(QUICKSTART))
    from recipe.speech import Utterance  # type: ignore[import-not-found]
    from recipe.speech import speak as synthesise  # type: ignore[import-not-found]

    parts: list[Samples] = []
    spans: list[tuple[str, str, int, int]] = []
    at = 0
    for voice in VOICES:
        for digit in DIGITS:
            samples = synthesise(Utterance(digit, voice, 150, 50, 0, 0.8, 0.0, False, 0))
            loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
            part = np.concatenate([samples[loud[0] : loud[-1] + 1], np.zeros(1600, np.float32)])
            spans.append((voice, digit, at, at + len(part) - 1600))
            parts.append(part)
            at += len(part)
    soundfile.write(FILE, np.concatenate(parts), RATE_HZ, format="OGG", subtype="OPUS", compression_level=0.95)
    FILE.with_suffix(".json").write_text(json.dumps(spans) + "\n")


if __name__ == "__main__":
    main()
