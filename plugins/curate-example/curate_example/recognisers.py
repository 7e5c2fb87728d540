"""A model over audio. This one has no weights: it measures whether there is sound, and serves as a recogniser too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curate.models import AudioModel, Clip


class Loudness(AudioModel):
    """Recognises "loud" or nothing, and measures the peak.

    Args:
        threshold: how loud is loud; full scale is 1.
    """

    writes = ("text", "peak")

    def __init__(self, threshold: float = 0.01) -> None:
        self.threshold = threshold

    def infer(self, clips: Sequence[Clip]) -> list[dict[str, Any]]:
        """Return a row for each clip, in order."""
        peaks = [float(abs(clip.samples).max()) for clip in clips]
        return [{"text": "loud" if peak >= self.threshold else "", "peak": round(peak, 6)} for peak in peaks]
