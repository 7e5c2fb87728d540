"""Spoken digit strings from espeak-ng: what is said, by whom, how, and the samples."""

from __future__ import annotations

import io
import random
import subprocess
import zlib
from dataclasses import dataclass

import numpy as np
import soundfile as sf
import soxr

RATE_HZ = 16_000
TELEPHONE_RATE_HZ = 8_000
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
VOICES = ("en-us", "en-gb", "en-us+f3", "en-gb+m3")


@dataclass(frozen=True)
class Utterance:
    """One digit string and the way it is spoken; equal utterances sound equal to the last sample."""

    text: str
    voice: str
    speed_wpm: int
    pitch: int  # espeak-ng's scale of 0 to 99
    pause_ms: int  # added between words
    gain: float
    noise_level: float  # standard deviation of the white noise, full scale being 1
    narrowband: bool  # has passed through a telephone
    noise_seed: int


def is_held_out(text: str) -> bool:
    """Say whether `text` belongs to the demo (one in eight does), and so never to the training data."""
    return zlib.crc32(text.encode()) % 8 == 0


def draw_text(rng: random.Random, words: int, *, held_out: bool) -> str:
    """Draw a string of `words` digits from the demo's share of all strings, or from the training share."""
    while True:
        text = " ".join(rng.choices(DIGITS, k=words))
        if is_held_out(text) == held_out:
            return text


def draw_utterance(rng: random.Random, text: str, *, narrowband_share: float = 0.0) -> Utterance:
    """Draw a voice and a manner for `text`."""
    return Utterance(
        text=text,
        voice=rng.choice(VOICES),
        speed_wpm=rng.randint(125, 190),
        pitch=rng.randint(35, 65),
        pause_ms=rng.choice((0, 0, 30, 60, 120)),
        gain=rng.uniform(0.3, 1.0),
        noise_level=rng.uniform(0.0002, 0.004),
        narrowband=rng.random() < narrowband_share,
        noise_seed=rng.getrandbits(32),
    )


def speak(utterance: Utterance, rate_hz: int = RATE_HZ) -> np.ndarray:
    """Return the utterance as mono float32 samples at `rate_hz`."""
    command = ["espeak-ng", "-v", utterance.voice, "-s", str(utterance.speed_wpm), "-p", str(utterance.pitch)]
    command += ["-g", str(utterance.pause_ms // 10), "--stdout", utterance.text]
    wave = subprocess.run(command, check=True, capture_output=True).stdout
    samples, espeak_rate_hz = sf.read(io.BytesIO(wave), dtype="float32")
    if utterance.narrowband:
        samples = soxr.resample(samples, espeak_rate_hz, TELEPHONE_RATE_HZ)
        espeak_rate_hz = TELEPHONE_RATE_HZ
    samples = utterance.gain * soxr.resample(samples, espeak_rate_hz, rate_hz)
    return (samples + white_noise(len(samples), utterance.noise_level, utterance.noise_seed)).astype(np.float32)


def white_noise(samples: int, level: float, seed: int) -> np.ndarray:
    """Return `samples` samples of white noise with standard deviation `level`."""
    return np.random.default_rng(seed).normal(0.0, level, samples).astype(np.float32)
