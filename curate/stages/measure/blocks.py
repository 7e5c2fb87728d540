"""The audio of a record in blocks of fixed borders, as the measures take it.

Neighbouring measures share the samples of a recording of ordinary length; a longer one is read block by block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from curate.audio import Audio

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]

BLOCK_S = 30.0
"""The length of a block. The results of some measures depend on it in the last digits, so it is not a setting."""

_SHARED_SAMPLES = 600 * 48_000


def frame_blocks(audio: Audio) -> Iterator[Samples]:
    """Yield native frames, float32 `(frames, channels)`."""
    return audio.native_blocks(BLOCK_S)


def sample_blocks(audio: Audio, rate_hz: int) -> Iterator[Samples]:
    """Yield mono samples at a rate, float32 `(samples,)`."""
    if audio.duration_s * rate_hz > _SHARED_SAMPLES:
        yield from audio.blocks(BLOCK_S, rate_hz)
        return
    samples = audio.samples(rate_hz)
    size = round(BLOCK_S * rate_hz)
    for at in range(0, len(samples), size):
        yield samples[at : at + size]
