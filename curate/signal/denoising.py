"""Removes steady noise from speech: a Wiener filter with a decision-directed estimate of the ratio of speech to noise.

Ephraim and Malah, "Speech enhancement using a minimum mean-square error short-time spectral amplitude estimator", 1984:
the ratio in a frame is mostly what was let through in the frame before, which leaves no musical tones. The noise is the
floor of each frequency, as in `noise`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]
    Floats = npt.NDArray[np.float64]

_FRAME_S = 0.032
_OVERLAP = 4
_BATCH = 1024
_MEMORY = 0.98
_FLOOR_QUANTILE = 0.1
_FLOOR_OF_NOISE = 0.66
"""The quantile of the smoothed power of white noise, in units of its mean."""

_FLOOR_S = 120
"""The floor of a longer recording is measured on this many of its seconds, evenly distributed."""


def remove_noise(samples: Samples, rate_hz: int, strength: float) -> Samples:
    """Return samples with less steady noise, as many as were given.

    Args:
        samples: one channel, float32.
        rate_hz: of the samples.
        strength: 0 to 1; what is noise alone is turned down to 1 − strength of its amplitude.
    """
    import numpy as np

    hop = max(2, round(rate_hz * _FRAME_S / _OVERLAP))
    frame = hop * _OVERLAP
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frame) / frame))
    noise = _floor(samples, rate_hz, frame, hop, window)
    padded = np.concatenate([np.zeros(frame, np.float32), samples, np.zeros(frame + (-len(samples) % hop), np.float32)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, frame)[::hop]
    result = np.zeros(len(padded))
    before: Floats | None = None
    for first in range(0, len(frames), _BATCH):
        spectrum = np.fft.rfft(frames[first : first + _BATCH] * window)
        power = np.square(np.abs(spectrum))
        gains, before = _gains(power, noise, before, 1 - strength)
        parts = np.fft.irfft(spectrum * gains, frame) * window
        for place in range(len(parts)):
            at = (first + place) * hop
            result[at : at + frame] += parts[place]
    scale = _OVERLAP / 2  # the squared windows that overlap at each sample add up to it
    return (result[frame : frame + len(samples)] / scale).astype(np.float32)


def _gains(power: Floats, noise: Floats, before: Floats | None, least: float) -> tuple[Floats, Floats]:
    """Return the gain of each frame and frequency, and what the last frame has let through, in units of the noise."""
    import numpy as np

    ratios = power / np.maximum(noise, 1e-20)
    gains = np.empty_like(ratios)
    for place, ratio in enumerate(ratios):
        above = np.maximum(ratio - 1, 0)
        speech = above if before is None else _MEMORY * before + (1 - _MEMORY) * above
        gain = np.maximum(speech / (1 + speech), least)
        before = gain * gain * ratio
        gains[place] = gain
    assert before is not None, "there is a frame"
    return gains, before


def _floor(samples: Samples, rate_hz: int, frame: int, hop: int, window: Floats) -> Floats:
    """Return the power of the noise at each frequency."""
    import numpy as np

    every = max(1, -(-len(samples) // (rate_hz * _FLOOR_S)))
    powers: list[Floats] = []
    for start in range(0, max(1, len(samples)), every * rate_hz):
        piece = samples[start : start + max(rate_hz, 5 * frame)]
        if len(piece) < 5 * frame:
            piece = samples[-5 * frame :]
        if len(piece) < frame:
            piece = np.pad(piece, (0, frame - len(piece)))
        spectrum = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(piece, frame)[::hop] * window)
        power = np.square(np.abs(spectrum))
        powers.append(_smoothed(power[power.sum(axis=1) > 1e-12]))
    joined = np.concatenate(powers)
    if not len(joined):
        return np.zeros(frame // 2 + 1)
    return np.quantile(joined, _FLOOR_QUANTILE, axis=0) / _FLOOR_OF_NOISE


def _smoothed(power: Floats) -> Floats:
    """Return power averaged over three frames and five frequencies."""
    import numpy as np

    padded = np.pad(power, ((1, 1), (2, 2)), mode="edge") if len(power) else np.zeros((2, power.shape[1] + 4))
    in_time = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return sum((in_time[:, at : at + power.shape[1]] for at in range(1, 5)), in_time[:, : power.shape[1]]) / 5
