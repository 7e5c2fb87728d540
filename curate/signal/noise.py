"""The signal-to-noise ratio of speech, from frames of 32 ms at 16 kHz.

Two ways to the noise. With the segments of a voice activity detection, it is the power of the frames outside them.
Without, it is the floor of each frequency band: the level that a tenth of the frames do not exceed, as between and
inside words some frame of every band has noise alone (R. Martin, "Noise power spectral density estimation based on
optimal smoothing and minimum statistics", 2001). Frames of digital silence belong to neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from curate.signal.wada import wada_snr_db

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]
    Floats = npt.NDArray[np.float64]

RATE_HZ = 16_000
"""The rate of the samples that are measured."""

LEAST_S = 0.5
"""The least speech, and the least noise, from which a ratio is measured."""

LEAST_DB, MOST_DB = -20.0, 80.0
"""The range of `snr_db`; what lies outside is reported as its end."""

MOST_WADA_DB = 60.0
"""The end of the range of `snr_wada_db`: above, the statistic hardly changes."""

_FRAME, _HOP = 512, 256
_BANDS, _BINS = 32, 8
_SMOOTHED = 3
_QUANTILE = 0.1
_FLOOR_OF_NOISE = 0.6612
"""The quantile of the smoothed power of white noise, in units of its mean (`tests/unit/signal` computes it)."""

_LOWEST_DB, _STEPS_PER_DB, _STEPS = -220, 10, 2800
_SILENCE = 1e-20


@attrs.frozen
class SignalToNoise:
    """Two signal-to-noise ratios of a recording or segment; None where they cannot be measured.

    Attributes:
        snr_db: speech over noise, −20 to 80 dB.
        snr_wada_db: the same from the distribution of amplitudes, −20 to 60 dB; above 20 dB only the order holds.
    """

    snr_db: float | None
    snr_wada_db: float | None


class NoiseMeter:
    """Measures signal-to-noise ratios block by block, in memory that does not grow.

    Args:
        speech: the segments with speech, seconds from the start, sorted and apart; None: unknown.
    """

    def __init__(self, speech: Sequence[tuple[float, float]] | None = None) -> None:
        import numpy as np

        self._edges = None if speech is None else np.array(speech, np.float64).reshape(-1, 2)
        self._rest = np.zeros(0, np.float32)
        self._frame = 0
        self._before: Floats = np.zeros((0, _BANDS))
        self._counts = np.zeros((_BANDS, _STEPS), np.int64)
        self._smoothed = 0
        self._speech_power = self._noise_power = 0.0
        self._speech_frames = self._noise_frames = 0
        self._samples = 0
        self._amplitudes = self._logarithms = 0.0

    def add(self, samples: Samples) -> None:
        """Measure the next block: mono at 16 kHz."""
        import numpy as np

        self._add_amplitudes(samples)
        joined = np.concatenate([self._rest, samples])
        frames = max(0, (len(joined) - _FRAME) // _HOP + 1)
        self._rest = joined[frames * _HOP :]
        for first in range(0, frames, 4096):
            last = min(frames, first + 4096)
            piece = joined[first * _HOP : (last - 1) * _HOP + _FRAME]
            self._add_powers(_band_powers(piece))

    def ratios(self) -> SignalToNoise:
        """Return the ratios of all blocks so far."""
        snr_db = self._from_floor() if self._edges is None else self._from_segments()
        wada_db = None
        if self._samples >= LEAST_S * RATE_HZ:
            statistic = math.log(self._amplitudes / self._samples) - self._logarithms / self._samples
            wada_db = round(min(MOST_WADA_DB, wada_snr_db(statistic)), 1) + 0.0
        return SignalToNoise(snr_db, wada_db)

    def _add_amplitudes(self, samples: Samples) -> None:
        import numpy as np

        amplitudes = np.abs(samples.astype(np.float64))
        amplitudes = amplitudes[amplitudes > math.sqrt(_SILENCE)]
        self._samples += len(amplitudes)
        self._amplitudes += float(amplitudes.sum())
        self._logarithms += float(np.log(amplitudes).sum())

    def _add_powers(self, powers: Floats) -> None:
        """Add the powers of frames, `(frames, bands)`."""
        import numpy as np

        total = powers.sum(axis=1)
        sound = total > _SILENCE
        if self._edges is not None:
            centres = (np.arange(self._frame, self._frame + len(powers)) * _HOP + _FRAME / 2) / RATE_HZ
            inside, near = _in_segments(centres, self._edges, _FRAME / 2 / RATE_HZ)
            self._speech_power += float(total[sound & inside].sum())
            self._speech_frames += int((sound & inside).sum())
            self._noise_power += float(total[sound & ~near].sum())
            self._noise_frames += int((sound & ~near).sum())
        self._frame += len(powers)
        powers = np.concatenate([self._before, powers[sound]])
        if self._edges is not None or len(powers) < _SMOOTHED:
            self._before = powers if self._edges is None else self._before
            return
        smoothed = (powers[:-2] + powers[1:-1] + powers[2:]) / _SMOOTHED
        self._before = powers[len(powers) - _SMOOTHED + 1 :]
        self._smoothed += len(smoothed)
        self._speech_power += float(smoothed.sum())
        steps = np.floor((10 * np.log10(np.maximum(smoothed, 1e-30)) - _LOWEST_DB) * _STEPS_PER_DB)
        steps = np.clip(steps, 0, _STEPS - 1).astype(np.int64) + np.arange(_BANDS) * _STEPS
        self._counts += np.bincount(steps.ravel(), minlength=_BANDS * _STEPS).reshape(_BANDS, _STEPS)

    def _from_floor(self) -> float | None:
        import numpy as np

        if self._smoothed * _HOP < 2 * LEAST_S * RATE_HZ:
            return None
        rank = _QUANTILE * self._smoothed
        cumulated = np.cumsum(self._counts, axis=1)
        step = np.argmax(cumulated >= rank, axis=1)
        floors_db = _LOWEST_DB + (step + 0.5) / _STEPS_PER_DB
        noise = float((10 ** (floors_db / 10)).sum()) / _FLOOR_OF_NOISE
        return _ratio_db(self._speech_power / self._smoothed, noise)

    def _from_segments(self) -> float | None:
        if min(self._speech_frames, self._noise_frames) * _HOP < LEAST_S * RATE_HZ:
            return None
        return _ratio_db(self._speech_power / self._speech_frames, self._noise_power / self._noise_frames)


def _ratio_db(both: float, noise: float) -> float:
    """Return the ratio for the power of speech with noise, and of noise alone."""
    ratio = max(both - noise, 0.0) / noise
    return round(min(MOST_DB, max(LEAST_DB, 10 * math.log10(max(ratio, 1e-10)))), 1) + 0.0


def _band_powers(samples: Samples) -> Floats:
    """Return the power of each frame in bands of 250 Hz, `(frames, bands)`, without the lowest bin."""
    import numpy as np

    frames = np.lib.stride_tricks.sliding_window_view(samples, _FRAME)[::_HOP]
    window = np.hanning(_FRAME + 1)[:-1].astype(np.float32)
    spectrum = np.fft.rfft(frames * window)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    scale = 2 / (_FRAME * float(np.square(window.astype(np.float64)).sum()))
    return power[:, 1:].reshape(len(frames), _BANDS, _BINS).sum(axis=2) * scale


def _in_segments(
    centres: Floats, edges: Floats, margin_s: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which times lie in a segment, and which lie in one or within a margin of it."""
    import numpy as np

    if not len(edges):
        nowhere = np.zeros(len(centres), np.bool_)
        return nowhere, nowhere
    starts, ends = edges[:, 0], edges[:, 1]
    place = np.searchsorted(starts, centres, side="right") - 1
    inside = (place >= 0) & (centres < ends[np.maximum(place, 0)])
    behind = (place >= 0) & (centres - margin_s < ends[np.maximum(place, 0)])
    following = np.minimum(place + 1, len(starts) - 1)
    before = (place + 1 < len(starts)) & (centres + margin_s > starts[following])
    return inside, behind | before
