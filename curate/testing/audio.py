"""Tiny recordings for tests, generated deterministically."""

from __future__ import annotations

import math
import struct
import wave
from pathlib import Path


def write_tone(path: str | Path, seconds: float = 1.0, *, rate_hz: int = 16_000, hz: float = 330.0) -> Path:
    """Write a sine as a mono WAV file of 16 bits, with its folder, and return its path.

    Args:
        seconds: its length, rounded to whole samples.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = [round(9000 * math.sin(2 * math.pi * hz * place / rate_hz)) for place in range(round(seconds * rate_hz))]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return path


def write_silence(path: str | Path, seconds: float = 1.0, *, rate_hz: int = 16_000) -> Path:
    """Write silence, otherwise as `write_tone`."""
    return write_tone(path, seconds, rate_hz=rate_hz, hz=0.0)


def write_broken(path: str | Path) -> Path:
    """Write a text file under the name of an audio file, and return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("this is not audio\n")
    return path
