"""Long recordings made of the real clips, with pauses and noise, whose speech is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.unit.signal.real_speech import clips, white_noise

RATE_HZ = 16_000
LEVEL = 0.05


@dataclass(frozen=True)
class LongSpeech:
    """A recording, and what it is made of, in seconds."""

    samples: np.ndarray
    speech: list[tuple[float, float]]
    clips: list[tuple[str, float, float]]


def extents(samples: np.ndarray) -> list[tuple[float, float]]:
    """Return where 10 ms frames lie less than 30 dB under the clip's 95th percentile; gaps under 0.3 s are closed."""
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    level = 10 * np.log10(np.maximum(np.mean(frames**2, axis=1), 1e-12))
    places = np.flatnonzero(level > np.quantile(level, 0.95) - 30)
    breaks = np.flatnonzero(np.diff(places) > 30)
    starts, ends = places[np.concatenate([[0], breaks + 1])], places[np.concatenate([breaks, [len(places) - 1]])] + 1
    return [(start / 100, end / 100) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def long_speech(minutes: float, *, seed: int = 0, snr_db: float = 20) -> LongSpeech:
    """Return clips in random order with pauses of 0.3 to 4 s, all equally loud, with white noise."""
    rng = np.random.default_rng(seed)
    sources = sorted(clips(RATE_HZ).items())
    parts: list[np.ndarray] = []
    speech: list[tuple[float, float]] = []
    used: list[tuple[str, float, float]] = []
    at = 0
    while at < minutes * 60 * RATE_HZ:
        name, (clip, _) = sources[rng.integers(len(sources))]
        begin_s = at / RATE_HZ
        speech += [(begin_s + start, begin_s + end) for start, end in extents(clip)]
        used.append((name, begin_s, begin_s + len(clip) / RATE_HZ))
        pause = np.zeros(round(rng.uniform(0.3, 4) * RATE_HZ), np.float32)
        parts += [clip / np.sqrt(np.mean(clip**2)) * LEVEL, pause]
        at += len(clip) + len(pause)
    samples = np.concatenate(parts)
    samples += LEVEL / 10 ** (snr_db / 20) * white_noise(len(samples), seed=seed)
    return LongSpeech(samples.astype(np.float32), speech, used)


def mask(segments: list[tuple[float, float]], duration_s: float) -> np.ndarray:
    """Return which milliseconds lie in a segment."""
    result = np.zeros(round(duration_s * 1000) + 1, bool)
    for start, end in segments:
        result[round(start * 1000) : round(end * 1000)] = True
    return result
