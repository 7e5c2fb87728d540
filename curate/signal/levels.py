"""Levels of a recording, from its native frames: peak, RMS, clipping, constant part, digital zeros, channels.

A meter takes the frames block by block, so its memory does not grow with the recording. The borders of the blocks cut
runs of equal samples; blocks of one length give the same figures every time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Frames = npt.NDArray[np.float32]
    Sums = npt.NDArray[np.float64]
    Places = npt.NDArray[np.intp]

FULL_SCALE_STEP = 1.5 / 32768
"""The distance from ±1 within which a sample is at full scale: 16-bit audio ends at 1 − 1/32768."""

FULL_SCALE_RUN = 2
"""The fewest neighbouring samples at full scale that count as clipped; a single one may be a peak."""

FLAT_RUN = 3
"""The fewest equal samples at the highest level of a channel that count as clipped below full scale."""

FLAT_LEAST_LEVEL = 0.01
"""Below −40 dBFS, the steps of 16-bit audio make flat tops of their own."""

FLAT_EDGE = 4 / 32768
"""The step at the edge of a flat top. The top of a slow wave is flat in 16 bits, too, but its edges are not steep."""

ZERO_RUN_S = 0.01
"""The shortest digital silence that counts; single zeros are ordinary samples of quiet audio."""

MAX_BALANCE_DB = 120.0
"""The balance where a channel is digital silence, and the most that is reported."""


@attrs.frozen
class Levels:
    """The levels of a recording or segment.

    Attributes:
        peak_dbfs: the highest absolute sample of all channels; None for digital silence.
        rms_dbfs: the root mean square of all channels; a sine at full scale has −3.01. None for digital silence.
        clipped_ratio: the share of samples in runs at full scale or in flat tops at the highest level of a channel.
        dc_offset: the mean of the channel that is farthest from 0, in units of full scale.
        zero_ratio: the share of frames in runs of at least 10 ms in which every channel is exactly 0.
        channel_balance_db: the loudest channel over the quietest one; None for mono and for digital silence.
        channel_correlation: the lowest correlation of two channels; None for mono, or where a channel is constant.
    """

    peak_dbfs: float | None
    rms_dbfs: float | None
    clipped_ratio: float
    dc_offset: float
    zero_ratio: float
    channel_balance_db: float | None
    channel_correlation: float | None


class LevelMeter:
    """Measures levels block by block.

    Args:
        rate_hz: of the frames.
        channels: how many a frame has.
    """

    def __init__(self, rate_hz: int, channels: int) -> None:
        import numpy as np

        self._channels = channels
        self._zero_run = max(1, round(ZERO_RUN_S * rate_hz))
        self._frames = self._zero_frames = self._clipped = 0
        self._sums: Sums = np.zeros(channels)
        self._products: Sums = np.zeros((channels, channels))
        # A flat top counts only at the extreme of its channel and sign, which is known at the end.
        self._extremes: Sums = np.zeros((channels, 2))
        self._flat = [[0, 0] for _ in range(channels)]
        self._peak = 0.0

    def add(self, frames: Frames) -> None:
        """Measure the next block, float of shape `(frames, channels)`, finite."""
        import numpy as np

        if not len(frames):
            return
        self._frames += len(frames)
        wide = frames.astype(np.float64)
        self._sums += wide.sum(axis=0)
        self._products += wide.T @ wide
        self._peak = max(self._peak, float(np.abs(frames).max()))
        self._zero_frames += _samples_in_runs(np.abs(frames).max(axis=1) == 0, self._zero_run)
        for channel in range(self._channels):
            self._add_clipping(channel, np.ascontiguousarray(frames[:, channel]))

    def levels(self) -> Levels:
        """Return the levels of all blocks so far; without any frame, those of silence."""
        import numpy as np

        total = self._frames * self._channels
        if not total:
            return Levels(None, None, 0.0, 0.0, 1.0, None, None)
        means = self._sums / self._frames
        powers = np.diag(self._products) / self._frames
        power = float(powers.mean())
        flat = sum(sum(counts) for counts in self._flat)
        offset = float(means[int(np.argmax(np.abs(means)))])
        return Levels(
            peak_dbfs=decibels(self._peak**2),
            rms_dbfs=decibels(power),
            clipped_ratio=round((self._clipped + flat) / total, 6),
            dc_offset=round(offset, 6) + 0.0,
            zero_ratio=round(self._zero_frames / self._frames, 6),
            channel_balance_db=self._balance(powers),
            channel_correlation=self._correlation(means),
        )

    def _balance(self, powers: Sums) -> float | None:
        high, low = float(powers.max()), float(powers.min())
        if self._channels == 1 or not high:
            return None
        if not low:
            return MAX_BALANCE_DB
        return round(min(MAX_BALANCE_DB, 10 * math.log10(high / low)), 2)

    def _correlation(self, means: Sums) -> float | None:
        import numpy as np

        if self._channels == 1:
            return None
        covariances = self._products / self._frames - np.outer(means, means)
        variances = np.diag(covariances)
        if (variances <= 1e-12 * np.maximum(np.diag(self._products) / self._frames, 1e-30)).any():
            return None
        matrix = covariances / np.sqrt(np.outer(variances, variances))
        return round(float(np.clip(matrix.min(), -1, 1)), 3) + 0.0

    def _add_clipping(self, channel: int, samples: Frames) -> None:
        import numpy as np

        at_full_scale = np.abs(np.abs(samples) - 1) <= FULL_SCALE_STEP
        if at_full_scale.any():
            self._clipped += _samples_in_runs(at_full_scale, FULL_SCALE_RUN)
        for sign, extreme in enumerate((float(samples.max()), float(samples.min()))):
            known = self._extremes[channel, sign]
            if abs(extreme) < FLAT_LEAST_LEVEL or (extreme > 0) == bool(sign) or abs(extreme) < abs(known):
                continue
            if abs(extreme) > abs(known):
                self._extremes[channel, sign] = extreme
                self._flat[channel][sign] = 0
            if abs(abs(extreme) - 1) > FULL_SCALE_STEP:
                self._flat[channel][sign] += _flat_top_samples(samples, extreme)


def decibels(power: float) -> float | None:
    """Return a mean square in dBFS with two digits; None for 0."""
    return round(10 * math.log10(power), 2) + 0.0 if power > 0 else None


def _runs(chosen: npt.NDArray[np.bool_]) -> tuple[Places, Places]:
    """Return where the runs of True begin, and where the samples behind them are."""
    import numpy as np

    edges = np.flatnonzero(np.diff(chosen.astype(np.int8), prepend=np.int8(0), append=np.int8(0)))
    return edges[::2], edges[1::2]


def _samples_in_runs(chosen: npt.NDArray[np.bool_], shortest: int) -> int:
    """Return how many samples lie in runs of True of a least length."""
    starts, stops = _runs(chosen)
    lengths = stops - starts
    return int(lengths[lengths >= shortest].sum())


def _flat_top_samples(samples: Frames, extreme: float) -> int:
    """Return how many samples lie in flat tops: runs of one extreme level with a steep edge."""
    starts, stops = _runs(samples == samples.dtype.type(extreme))
    lengths = stops - starts
    long_enough = lengths >= FLAT_RUN
    total = 0
    for start, stop in zip(starts[long_enough].tolist(), stops[long_enough].tolist(), strict=True):
        before = abs(extreme - float(samples[start - 1])) if start else 0.0
        behind = abs(extreme - float(samples[stop])) if stop < len(samples) else 0.0
        if max(before, behind) >= FLAT_EDGE:
            total += stop - start
    return total
