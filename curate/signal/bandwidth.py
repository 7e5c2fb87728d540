"""The highest frequency that a recording holds, at its own rate: the edge of a codec, a telephone or an upsampling.

Noise fills a spectrum up to half the rate, whatever speech was recorded below it. So a band counts where its power
*varies*, between frames with speech and frames without, above the noise floor of the band itself. Where nothing varies,
as in steady noise, the spectrum's own edge is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]
    Floats = npt.NDArray[np.float64]

LEAST_S = 0.4
"""What is shorter has too few frames."""

MOST_ANALYSED_S = 300
"""A longer recording is measured on this many of its seconds, evenly distributed."""

DYNAMIC_RANGE_DB = 65.0
"""How far below the strongest band a band may lie; the images of good resampling are weaker."""

_WINDOW_S, _HOP_S = 0.02, 0.01
_LEAST_BAND_HZ = 100.0
_MOST_BANDS = 400
_HIGH, _LOW = 0.97, 0.2
_VARIES_DB = 4.0
_FALL_DB, _FALL_HZ = 23.0, 1500.0
_AFTER_GAP_DB = 50.0
_EDGE_HZ = 500.0
_SURE_DB = 20.0
_SILENCE = 1e-20


@attrs.frozen
class Bandwidth:
    """The bandwidth of a recording or segment.

    Attributes:
        bandwidth_hz: the highest frequency with signal; None under 0.4 s and for digital silence.
        confidence: 0 to 1: how far the power falls within 500 Hz at the edge, 20 dB for 1. A filter or codec has a
            steep edge; speech that fades into noise has none. 1 where the signal reaches half the rate.
    """

    bandwidth_hz: int | None
    confidence: float | None


class BandwidthMeter:
    """Measures the bandwidth block by block, in bounded memory.

    Args:
        rate_hz: the recording's own.
        duration_s: its length, which decides how much of it is measured.
    """

    def __init__(self, rate_hz: int, duration_s: float) -> None:
        import numpy as np

        self._rate_hz = rate_hz
        self._frame = max(8, round(_WINDOW_S * rate_hz))
        self._hop = max(4, round(_HOP_S * rate_hz))
        bin_hz = rate_hz / self._frame
        band_hz = max(_LEAST_BAND_HZ, rate_hz / 2 / _MOST_BANDS)
        self._bins = max(1, round(band_hz / bin_hz))
        self._every = max(1, -int(-duration_s // MOST_ANALYSED_S))
        self._second = 0
        self._rest = np.zeros(0, np.float32)
        self._powers: list[npt.NDArray[np.float32]] = []
        # The side lobes of Blackman-Harris are 92 dB down, so strong low bands do not reach into weak high ones.
        turns = 2 * np.pi * np.arange(self._frame) / self._frame
        window = 0.35875 - 0.48829 * np.cos(turns) + 0.14128 * np.cos(2 * turns) - 0.01168 * np.cos(3 * turns)
        self._window = window.astype(np.float32)

    def add(self, samples: Samples) -> None:
        """Measure the next block: one channel at the recording's own rate."""
        import numpy as np

        joined = np.concatenate([self._rest, samples])
        size = self._rate_hz
        at = 0
        while len(joined) - at >= size:
            if self._second % self._every == 0:
                self._add_powers(joined[at : at + size])
            self._second += 1
            at += size
        self._rest = joined[at:]

    def bandwidth(self) -> Bandwidth:
        """Return the bandwidth of all blocks; call it once, at the end."""
        import numpy as np

        if len(self._rest) >= self._frame and self._second % self._every == 0:
            self._add_powers(self._rest)
        frames = sum(map(len, self._powers))
        if frames * self._hop < (LEAST_S - _WINDOW_S) * self._rate_hz:
            return Bandwidth(None, None)
        powers = np.concatenate(self._powers)
        return self._edge(*_extremes(powers))

    def _add_powers(self, samples: Samples) -> None:
        import numpy as np

        frames = np.lib.stride_tricks.sliding_window_view(samples, self._frame)[:: self._hop]
        spectrum = np.fft.rfft(frames * self._window)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        bands = (power.shape[1] - 1) // self._bins
        power = power[:, 1 : 1 + bands * self._bins].reshape(len(frames), bands, self._bins).mean(axis=2)
        power /= float(np.square(self._window.astype(np.float64)).sum())
        self._powers.append(power[power.sum(axis=1) > _SILENCE].astype(np.float32))

    def _edge(self, high: Floats, low: Floats) -> Bandwidth:

        high_db, low_db = _decibels(high), _decibels(low)
        band_hz = self._bins * self._rate_hz / self._frame
        in_range = high_db > high_db.max() - DYNAMIC_RANGE_DB
        varies = _opened(in_range & (high_db - low_db > self._steady_db() + _VARIES_DB))
        if varies.mean() < 0.05:  # steady sound: its own spectrum has the edge
            varies = _opened(in_range)
        last = _last_before_fall(high_db, varies, max(1, round(_FALL_HZ / band_hz)))
        if last is None:
            return Bandwidth(None, None)
        return Bandwidth(
            round((last + 1.5) * band_hz) if last + 1 < len(varies) else round(self._rate_hz / 2),
            self._confidence(high_db, last, band_hz),
        )

    def _confidence(self, high_db: Floats, last: int, band_hz: float) -> float:
        import numpy as np

        near = max(1, round(_EDGE_HZ / band_hz))
        if last + near >= len(high_db):
            return 1.0
        below = float(np.median(high_db[max(0, last - near) : last]))
        above = float(np.median(high_db[last + 1 : last + 1 + near]))
        return round(min(1.0, max(0.0, (below - above) / _SURE_DB)), 2) + 0.0

    def _steady_db(self) -> float:
        """The spread that steady noise itself has, by the number of bins of a band (measured on white noise)."""
        return {1: 14.0, 2: 11.5}.get(self._bins, 10.0)


def _extremes(powers: npt.NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Return the mean of the strongest 3 % of each band's frames, and the level that 20 % do not exceed."""
    import numpy as np

    ordered = np.sort(powers, axis=0)
    strongest = ordered[min(len(ordered) - 1, int(_HIGH * len(ordered))) :]
    return strongest.mean(axis=0, dtype=np.float64), ordered[int(_LOW * len(ordered))].astype(np.float64)


def _last_before_fall(high_db: Floats, chosen: npt.NDArray[np.bool_], near: int) -> int | None:
    """Return the highest chosen band before a fall of 23 dB within 1.5 kHz, as of a filter; None: there is none.

    Behind a wider gap, as between the vowels and the fricatives of a speaker, only strong bands count.
    """
    top_db = float(high_db.max())
    last: int | None = None
    accepted: list[int] = []
    for band in map(int, chosen.nonzero()[0]):
        neighbours = [float(high_db[other]) for other in accepted[-near:] if band - other <= near]
        bound_db = max(neighbours) - _FALL_DB if neighbours else top_db - _AFTER_GAP_DB
        if high_db[band] >= bound_db:
            accepted.append(band)
            last = band
    return last


def _decibels(powers: Floats) -> Floats:
    import numpy as np

    return 10 * np.log10(np.maximum(powers, 1e-24))


def _opened(bands: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the bands that lie in a run of three: a single band is a tone or chance."""
    import numpy as np

    if len(bands) < 3:
        return bands
    three = bands[:-2] & bands[1:-1] & bands[2:]
    result = np.zeros_like(bands)
    for at in range(3):
        result[at : len(bands) - 2 + at] |= three
    return result
