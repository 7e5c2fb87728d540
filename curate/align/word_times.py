"""Gives aligned words their times: CTC's labels are peaks, and a word ends later than its last peak.

The energy of the audio says how much later. A word is extended into the pause behind it, at most 0.2 s and no further
than the energy falls, and by at most one frame into the pause before it.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from curate.align.alignment import AlignedWord, UncoveredAudio

MAX_EXTENSION_S = 0.2
STEP_S = 0.01
_FLOOR_QUANTILE = 0.05
_SURROUNDINGS_S = 10.0
"""How much audio on either side of a word says how loud the noise is."""

_LEAST_RANGE_DB = 6.0
_DEPTH = 0.75
"""How far the energy must fall, of the way from the loudest step of the word down to the noise, in dB."""


@attrs.frozen
class WordTime:
    """The start and the end of a word, in seconds."""

    start_s: float
    end_s: float


class EnergyMeter:
    """Measures the energy of audio in steps of 10 ms, in dB."""

    def __init__(self, rate_hz: int) -> None:
        self._step = max(1, round(rate_hz * STEP_S))
        self._powers: list[NDArray[np.float64]] = []
        self._rest = np.empty(0, np.float32)

    def add(self, samples: NDArray[np.float32]) -> None:
        """Add the next samples."""
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) // self._step * self._step
        steps = samples[:whole].reshape(-1, self._step)
        self._powers.append(np.einsum("ij,ij->i", steps, steps, dtype=np.float64) / self._step)
        self._rest = samples[whole:]

    def levels(self) -> NDArray[np.float64]:
        """Return the level of each step in dB of full scale, at least -120."""
        powers = np.concatenate([np.empty(0), *self._powers])
        return 10 * np.log10(np.maximum(powers, 1e-12))


def place_words(
    words: Sequence[AlignedWord],
    uncovered: Sequence[UncoveredAudio],
    levels: NDArray[np.float64],
    frame_s: float,
    duration_s: float,
) -> list[WordTime]:
    """Return the times of words, in order; none begins before the one before it ends.

    Args:
        words: with their frames.
        uncovered: what no word is extended into.
        levels: of the audio, in steps of 10 ms.
        frame_s: the length of a frame.
        duration_s: the length of the audio.
    """
    spans = sorted([(one.start * frame_s, one.end * frame_s) for one in (*words, *uncovered)])
    starts = np.array([start for start, _ in spans])
    ends = np.array([end for _, end in spans])
    times: list[WordTime] = []
    free_s = 0.0
    for word in words:
        start_s, end_s = word.start * frame_s, word.end * frame_s
        behind = int(np.searchsorted(starts, start_s, side="right"))
        next_s = float(starts[behind]) if behind < len(starts) else duration_s
        before_s = max(free_s, float(ends[behind - 2]) if behind >= 2 else 0.0)
        fallen = _fallen_level(levels, start_s, end_s)
        end_s = _extended(levels, end_s, min(next_s, end_s + MAX_EXTENSION_S), fallen)
        start_s = -_extended_back(levels, start_s, max(before_s, start_s - frame_s), fallen)
        end_s = min(end_s, duration_s)
        start_s = min(max(start_s, free_s), end_s)
        free_s = end_s
        times.append(WordTime(start_s, end_s))
    return times


def _fallen_level(levels: NDArray[np.float64], start_s: float, end_s: float) -> float:
    """Return the level, in dB, below which a word is over."""
    first, last, reach = int(start_s / STEP_S), int(end_s / STEP_S), int(_SURROUNDINGS_S / STEP_S)
    inside, around = levels[first : max(last, first + 1)], levels[max(0, first - reach) : last + reach]
    if not len(inside):
        return 0.0
    floor, peak = float(np.quantile(around, _FLOOR_QUANTILE)), float(inside.max())
    return peak - max(_LEAST_RANGE_DB, _DEPTH * (peak - floor))


def _extended(levels: NDArray[np.float64], end_s: float, limit_s: float, fallen: float) -> float:
    first, last = round(end_s / STEP_S), int(limit_s / STEP_S)
    below = np.flatnonzero(levels[first:last] < fallen)
    return (first + int(below[0])) * STEP_S if len(below) else max(end_s, limit_s)


def _extended_back(levels: NDArray[np.float64], start_s: float, limit_s: float, fallen: float) -> float:
    first, last = round(limit_s / STEP_S), round(start_s / STEP_S)
    below = np.flatnonzero(levels[first:last] < fallen)
    return -((first + int(below[-1]) + 1) * STEP_S if len(below) else min(start_s, limit_s))
