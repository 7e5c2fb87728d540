"""Real recordings for the tests of signals; the tests skip where there are none."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

Samples = np.ndarray
FOLDER = Path(os.environ.get("CURATE_SPEECH") or Path(__file__).parents[4] / "shared" / "speech")

needs_speech = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no real speech at {FOLDER} (set CURATE_SPEECH)")


@cache
def clips(rate_hz: int | None = None, least_s: float = 0.0) -> dict[str, tuple[Samples, int]]:
    """Return the clips, mono, by the stem of their file's name, with their rate."""
    found: dict[str, tuple[Samples, int]] = {}
    for manifest in sorted(FOLDER.glob("*/manifest.jsonl")):
        for line in manifest.read_text().splitlines():
            path = manifest.parent / json.loads(line)["audio_filepath"]
            samples, own_hz = soundfile.read(path, dtype="float32", always_2d=True)
            mono = samples.mean(axis=1)
            if len(mono) >= least_s * own_hz:
                found[path.stem] = (mono if rate_hz is None else resampled(mono, own_hz, rate_hz), rate_hz or own_hz)
    return found


def resampled(samples: Samples, rate_in_hz: int, rate_out_hz: int) -> Samples:
    """Return samples at another rate, float32."""
    return soxr.resample(samples, rate_in_hz, rate_out_hz).astype(np.float32)


def with_noise(samples: Samples, noise: Samples, snr_db: float) -> Samples:
    """Return speech with noise added in float, at a ratio of their powers over the whole clip."""
    gain = np.sqrt(np.mean(samples**2) / np.mean(noise**2) / 10 ** (snr_db / 10))
    return (samples + gain * noise).astype(np.float32)


def white_noise(length: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).standard_normal(length).astype(np.float32)
