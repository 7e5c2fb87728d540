"""The audio of one record, as a model gets it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Waveform = NDArray[np.float32]
else:
    Waveform = Any


@attrs.frozen(eq=False)
class Clip:
    """The audio of one record, as a model gets it.

    Args:
        samples: float32 of shape (samples,), mono, at `rate_hz`, full scale at ±1.
        rate_hz: the model's sampling rate.
        record: the record's columns, read-only, such as its language or a prompt; empty in a trial without records.
    """

    samples: Waveform = attrs.field(repr=False)
    rate_hz: int
    record: Mapping[str, Any] = attrs.field(factory=dict[str, Any])

    @property
    def duration_s(self) -> float:
        """The length of the clip in seconds."""
        return len(self.samples) / self.rate_hz
