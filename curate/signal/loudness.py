"""Integrated loudness after ITU-R BS.1770-4 and EBU R 128, block by block, with the K-weighting of pyloudnorm.

The weighting filters are those of B. De Man (2018), which meet the coefficients of the recommendation at 48 kHz and
scale to any rate. All channels have the weight 1: recordings of speech with more than two channels are of arrays of
microphones, not of surround sound.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Frames = npt.NDArray[np.float32]

LEAST_S = 0.4
"""The gating block of BS.1770: what is shorter has no loudness."""

LEAST_RATE_HZ = 8000
"""Below this, the weighting filter's shelf lies too near to half the rate."""

_STEP_S = 0.1  # blocks of 0.4 s overlap by 75 %
_STEPS = 4
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0
_SHELF: dict[str, Any] = {
    "G": 3.99984385397,
    "Q": 0.7071752369554193,
    "fc": 1681.9744509555319,
    "filter_type": "high_shelf_DeMan",
}
_HIGH_PASS: dict[str, Any] = {
    "G": 0.0,
    "Q": 0.5003270373253953,
    "fc": 38.13547087613982,
    "filter_type": "high_pass_DeMan",
}


class LoudnessMeter:
    """Measures integrated loudness block by block, in memory that grows by 80 bytes a second.

    Args:
        rate_hz: of the frames.
        channels: how many a frame has.

    Raises:
        ImportError: pyloudnorm is not installed (the extra `loudness`).
    """

    def __init__(self, rate_hz: int, channels: int) -> None:
        import numpy as np
        from pyloudnorm.iirfilter import IIRfilter

        self._rate_hz = rate_hz
        filters: list[Any] = [IIRfilter(rate=rate_hz, **each) for each in (_SHELF, _HIGH_PASS)]
        self._filters = [(each.b, each.a, each.passband_gain) for each in filters]
        self._states = [np.zeros((2, channels)) for _ in filters]
        self._rest = np.zeros(0)
        self._powers: list[float] = []
        self._position = 0

    def add(self, frames: Frames) -> None:
        """Measure the next block, float of shape `(frames, channels)`, finite."""
        import numpy as np
        from scipy.signal import lfilter  # pyright: ignore[reportUnknownVariableType]

        if self._rate_hz < LEAST_RATE_HZ or not len(frames):
            return
        weighted: Any = frames.astype(np.float64)
        for place, (b, a, gain) in enumerate(self._filters):
            weighted, self._states[place] = lfilter(b, a, weighted, axis=0, zi=self._states[place])
            weighted = weighted * gain
        power = np.concatenate([self._rest, np.square(weighted).sum(axis=1)])
        begin = 0
        while (end := self._border(len(self._powers) + 1) - self._position) <= len(power):
            self._powers.append(float(power[begin:end].mean()))
            begin = end
        self._position += begin
        self._rest = power[begin:]

    def loudness_lufs(self) -> float | None:
        """Return the integrated loudness with two digits; None under 0.4 s, for silence below −70 LUFS, and where the
        rate is below 8 kHz.
        """
        import numpy as np

        if len(self._powers) < _STEPS:
            return None
        blocks = np.convolve(np.array(self._powers), np.full(_STEPS, 1 / _STEPS), mode="valid")
        loud = blocks[blocks > _power_of(_ABSOLUTE_GATE_LUFS)]
        if not len(loud):
            return None
        gate = float(loud.mean()) * 10 ** (_RELATIVE_GATE_LU / 10)
        return round(_loudness_of(float(loud[loud > gate].mean())), 2)

    def _border(self, step: int) -> int:
        return round(step * _STEP_S * self._rate_hz)


def _power_of(lufs: float) -> float:
    return 10 ** ((lufs + 0.691) / 10)


def _loudness_of(power: float) -> float:
    return -0.691 + 10 * math.log10(power)
