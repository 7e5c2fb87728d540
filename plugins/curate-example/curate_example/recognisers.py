"""A recogniser is a plain class. This one has no model: it only detects whether there is sound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curate.asr import Transcript


class Loudness:
    """Recognises "loud" or nothing.

    Args:
        threshold: how loud is loud; full scale is 1.
    """

    rate_hz = 16_000
    thread_safe = True

    def __init__(self, threshold: float = 0.01) -> None:
        self.threshold = threshold

    def setup(self) -> None:
        """Load the model, if there were one."""

    def transcribe(self, waveforms: Sequence[Any]) -> list[Transcript]:
        """Return a transcript for each waveform, in order."""
        return [Transcript("loud" if len(one) and abs(one).max() >= self.threshold else "") for one in waveforms]

    def close(self) -> None:
        """Release the model, if there were one."""
