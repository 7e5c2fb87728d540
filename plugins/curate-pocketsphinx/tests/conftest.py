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
def speech_folder() -> Path:
    """Return the folder with sets of real speech; skips where there is none."""
    folder = Path(os.environ.get("CURATE_SPEECH") or _REPOSITORY.parent / "shared" / "speech")
    if not folder.is_dir():
        pytest.skip(f"no real speech at {folder} (set CURATE_SPEECH)")
    return folder


@pytest.fixture(scope="session")
def speech(speech_folder: Path) -> Callable[[str], Clips]:
    """Return a function from a set's name to its clips, (waveform at 16 kHz, reference text)."""

    def load(name: str) -> Clips:
        manifest = speech_folder / name / "manifest.jsonl"
        records = [json.loads(line) for line in manifest.read_text().splitlines()]
        return [(_read(manifest.parent / record["audio_filepath"]), record["text"].lower()) for record in records]

    return load


def _read(path: Path) -> Waveform:
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ).astype(np.float32)
