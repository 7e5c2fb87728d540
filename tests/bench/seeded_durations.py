"""Durations as corpora have them, synthetic and seeded: the same figures on every machine."""

from __future__ import annotations

import math

SHAPES = ("tail", "cv", "libri")
RATE_HZ = 16_000


def seeded_durations(shape: str, count: int = 100_000, seed: int = 1234) -> list[float]:
    """Return durations in seconds, of whole samples.

    Args:
        shape: `tail`, speech as a detector cuts it out of recordings, 0.3 to 40 s; `cv`, short sentences read aloud;
            `libri`, a book cut near 15 s, with a share of shorter pieces.
        count: how many.
        seed: of the generator.
    """
    import numpy as np

    draw = np.random.default_rng(seed)
    if shape == "tail":
        seconds = np.clip(draw.lognormal(math.log(5.0), 0.85, count), 0.3, 40.0)
    elif shape == "cv":
        seconds = np.clip(draw.lognormal(math.log(4.8), 0.40, count), 1.0, 20.0)
    elif shape == "libri":
        is_long = draw.random(count) < 0.7
        near_15 = draw.normal(14.6, 1.5, count)
        seconds = np.clip(np.where(is_long, near_15, draw.lognormal(math.log(6.5), 0.6, count)), 1.3, 35.0)
    else:
        raise ValueError(f"shape={shape!r}: must be one of {', '.join(SHAPES)}")
    return (np.round(seconds * RATE_HZ) / RATE_HZ).tolist()
