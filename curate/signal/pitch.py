"""The fundamental frequency of a voice, by YIN (de Cheveigné and Kawahara, JASA 2002): 45 ms, every 20 ms.

The difference function of a frame is computed by one FFT; a frame is voiced where the cumulative mean normalised
difference has a minimum below 0.2 and the frame is not much weaker than the loudest ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]
    Floats = npt.NDArray[np.float64]

RATE_HZ = 16_000
"""The rate of the samples that are measured."""

LEAST_VOICED_S = 0.2
"""The least voiced sound that has a pitch."""

_LOWEST_HZ, _HIGHEST_HZ = 60.0, 500.0
# A voice's fundamental needs no more than 8 kHz. With the longest lag, a window fits an FFT of 512 points.
_OWN_HZ = RATE_HZ // 2
_WINDOW, _HOP = 360, 160
_THRESHOLD = 0.2
_STEPS_PER_OCTAVE = 240
_BATCH = 1024
_SILENCE = 1e-10
_RANGE_DB = 40.0


@attrs.frozen
class Pitch:
    """The pitch of a voice; the frequencies are None where less than 0.2 s are voiced.

    Attributes:
        median_hz: the median fundamental frequency of the voiced frames.
        low_hz, high_hz: the frequencies that 10 % and 90 % of the voiced frames do not exceed.
        voiced_ratio: the share of voiced frames.
    """

    median_hz: float | None
    low_hz: float | None
    high_hz: float | None
    voiced_ratio: float


class PitchMeter:
    """Measures pitch block by block, in memory that does not grow."""

    def __init__(self) -> None:
        import numpy as np

        self._shortest = int(_OWN_HZ / _HIGHEST_HZ)
        self._longest = int(_OWN_HZ / _LOWEST_HZ) + 1
        self._before = np.zeros(0, np.float32)
        self._rest = np.zeros(0, np.float32)
        self._frames = self._voiced = 0
        # Voiced frames by step of pitch and by power: weak ones are left out at the end, when the loudest are known.
        steps = int(_STEPS_PER_OCTAVE * np.log2(_HIGHEST_HZ / _LOWEST_HZ)) + 2
        self._counts = np.zeros((200, steps), np.int64)

    def add(self, samples: Samples) -> None:
        """Measure the next block: mono at 16 kHz."""
        import numpy as np

        joined = np.concatenate([self._rest, self._halved(samples)])
        size = _WINDOW + self._longest
        frames = max(0, (len(joined) - size) // _HOP + 1)
        self._rest = joined[frames * _HOP :]
        if not frames:
            return
        view = np.lib.stride_tricks.sliding_window_view(joined, size)[: (frames - 1) * _HOP + 1 : _HOP]
        for first in range(0, frames, _BATCH):
            self._add_frames(view[first : first + _BATCH])

    def pitch(self) -> Pitch:
        """Return the pitch of all blocks so far."""
        import numpy as np

        powers = np.flatnonzero(self._counts.any(axis=1))
        if not len(powers):
            return Pitch(None, None, None, 0.0)
        counts = self._counts[max(0, int(powers[-1]) - int(_RANGE_DB)) :].sum(axis=0)
        voiced = int(counts.sum())
        ratio = round(voiced / self._frames, 3)
        if voiced * _HOP < LEAST_VOICED_S * _OWN_HZ:
            return Pitch(None, None, None, ratio)
        cumulated = np.cumsum(counts)
        median, low, high = (
            round(_LOWEST_HZ * 2 ** (int(np.argmax(cumulated >= share * voiced)) / _STEPS_PER_OCTAVE), 1)
            for share in (0.5, 0.1, 0.9)
        )
        return Pitch(median, low, high, ratio)

    def _halved(self, samples: Samples) -> Samples:
        """Return every second sample, smoothed with its neighbours; a window of YIN forgives what folds down."""
        import numpy as np

        joined = np.concatenate([self._before, samples])
        pairs = max(0, (len(joined) - 1) // 2)
        self._before = joined[2 * pairs :]
        ahead, at, behind = (joined[step : 2 * pairs + step : 2] for step in (0, 1, 2))
        return np.asarray(0.25 * ahead + 0.5 * at + 0.25 * behind, np.float32)

    def _add_frames(self, frames: Samples) -> None:
        import numpy as np

        self._frames += len(frames)
        powers = np.square(frames[:, :_WINDOW]).mean(axis=1, dtype=np.float64)
        frames, powers = frames[powers > _SILENCE], powers[powers > _SILENCE]
        if not len(frames):
            return
        normalised = _normalised_difference(frames, self._longest)
        periods, dips = _first_dips(normalised, self._shortest)
        voiced = dips < _THRESHOLD
        hz = _OWN_HZ / periods[voiced]
        steps = np.round(_STEPS_PER_OCTAVE * np.log2(np.clip(hz, _LOWEST_HZ, _HIGHEST_HZ) / _LOWEST_HZ)).astype(np.intp)
        decibels: Floats = 10 * np.log10(powers[voiced])
        levels = np.clip(np.round(decibels).astype(np.intp) + 150, 0, len(self._counts) - 1)
        np.add.at(self._counts, (levels, steps), 1)


def _normalised_difference(frames: Samples, longest: int) -> Floats:
    """Return the cumulative mean normalised difference function for the lags 0 to `longest`, one row for each frame."""
    import numpy as np

    size = 1 << (_WINDOW + longest - 1).bit_length()
    spectrum = np.fft.rfft(frames, size)
    head = np.fft.rfft(frames[:, :_WINDOW], size)
    correlation = np.fft.irfft(spectrum * head.conj(), size)[:, : longest + 1]
    squares = np.zeros((len(frames), frames.shape[1] + 1))
    np.cumsum(np.square(frames), axis=1, dtype=np.float64, out=squares[:, 1:])
    lags = np.arange(longest)
    energies = squares[:, lags + _WINDOW] - squares[:, lags]
    difference = np.maximum(energies[:, :1] + energies - 2 * correlation[:, :longest], 0.0)
    means = np.cumsum(difference[:, 1:], axis=1) / np.arange(1, longest)
    normalised = np.ones_like(difference)
    np.divide(difference[:, 1:], means, out=normalised[:, 1:], where=means > 0)
    return normalised


def _first_dips(normalised: Floats, shortest: int) -> tuple[Floats, Floats]:
    """Return the lag and the depth of the first minimum below the threshold, or else of the lowest one."""
    import numpy as np

    inner = normalised[:, shortest:-1]
    minima = (inner <= normalised[:, shortest - 1 : -2]) & (inner < normalised[:, shortest + 1 :])
    low = minima & (inner < _THRESHOLD)
    lowest = np.where(minima, inner, np.inf).argmin(axis=1)
    first: npt.NDArray[np.intp] = np.argmax(low, axis=1)
    below: npt.NDArray[np.bool_] = np.any(low, axis=1)
    place: npt.NDArray[np.intp] = np.add(shortest, np.where(below, first, lowest))
    rows = np.arange(len(normalised))
    before, at, behind = (normalised[rows, place + step] for step in (-1, 0, 1))
    curvature = before - 2 * at + behind
    shift = np.divide(before - behind, 2 * curvature, out=np.zeros_like(at), where=curvature > 0)
    return np.add(place, np.clip(shift, -0.5, 0.5)), at
