"""Fixtures: one recogniser for all tests, and real speech where there is any."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from curate_pocketsphinx.recogniser import PocketSphinxRecogniser, Waveform

RATE_HZ = 16_000
_REPOSITORY = Path(__file__).resolve().parents[3]

Clips = list[tuple[Waveform, str]]


@pytest.fixture(scope="session")
def recogniser() -> PocketSphinxRecogniser:
    recogniser = PocketSphinxRecogniser(timestamps=True, confidence=True)
    recogniser.setup()
    return recogniser


@pytest.fixture(scope="session")
def speech() -> Callable[[str], Clips]:
    """Return a function from a set's name to its clips, (waveform at 16 kHz, reference text); skips without audio."""
    folder = Path(os.environ.get("CURATE_SPEECH") or _REPOSITORY.parent / "shared" / "speech")

    def load(name: str) -> Clips:
        manifest = folder / name / "manifest.jsonl"
        if not manifest.is_file():
            pytest.skip(f"no real speech at {manifest.parent} (set CURATE_SPEECH)")
        records = [json.loads(line) for line in manifest.read_text().splitlines()]
        return [(_read(manifest.parent / record["audio_filepath"]), record["text"].lower()) for record in records]

    return load


def _read(path: Path) -> Waveform:
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ).astype(np.float32)
