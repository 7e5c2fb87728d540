"""Encodes new audio as FLAC, the same bytes for the same samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curate.audio.encoding import encode_samples
from curate.errors import RecordError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_RATE_HZ = 655_350
"""What FLAC can hold."""


def encode_flac(samples: npt.NDArray[np.floating[Any]], rate_hz: int) -> bytes:
    """Return a FLAC file of 16 bits per sample.

    Samples are scaled by 32768, rounded half to even and limited to what 16 bits hold, so what was decoded from a file
    of 16 bits is encoded without loss.

    Args:
        samples: full scale is ±1; of shape (n,) or (frames, channels).
        rate_hz: a whole number of samples per second.

    Raises:
        RecordError: `zero_samples`, `non_finite`, `unsupported_rate`, `unsupported_channels`.
        TypeError, ValueError: the samples are not an array of floats of one or two dimensions.
    """
    import numpy as np

    array = np.asarray(samples)
    if array.dtype.kind != "f":
        raise TypeError(f"the samples of new audio must be floats, full scale ±1, not {array.dtype}")
    if array.ndim not in (1, 2):
        raise ValueError(f"the samples of new audio must have shape (n,) or (frames, channels), not {array.shape}")
    if isinstance(rate_hz, bool) or int(rate_hz) != rate_hz or not 1 <= rate_hz <= MAX_RATE_HZ:
        raise RecordError("unsupported_rate", f"FLAC holds whole rates from 1 Hz to {MAX_RATE_HZ} Hz, not {rate_hz!r}")
    if array.dtype.itemsize < 4:
        array = array.astype(np.float32)
    return encode_samples(array, int(rate_hz), "flac").content
