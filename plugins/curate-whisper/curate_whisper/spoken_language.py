"""The language that is spoken, by the first step of a multilingual Whisper model's decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import Any

from curate.errors import InfrastructureError, PlanError
from curate.models import Clip, EngineModel, Rows
from curate_whisper import settings
from curate_whisper.whisper import WhisperRecogniser


class WhisperLanguageIdentifier(EngineModel):
    """The probabilities of the languages that a multilingual Whisper model knows, for windows of up to 30 s.

    Windows go through the model one by one, so that a probability has the same digits in every batch.

    Args:
        model: a multilingual model, as for the recogniser `whisper`.
        compute_type: as for the recogniser `whisper`.
        download: whether a model that is not in the cache may be downloaded.
    """

    rate_hz = settings.RATE_HZ
    writes = ("languages",)

    def __init__(self, model: str | Path, *, compute_type: str = "auto", download: bool = False) -> None:
        self._recogniser = WhisperRecogniser(model, compute_type=compute_type, download=download)

    def check(self) -> None:
        """Check that faster-whisper is installed."""
        if util.find_spec("faster_whisper") is None:
            raise PlanError("engine 'whisper' needs faster-whisper: pip install faster-whisper")

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the checksum of the model's file."""
        return self._recogniser.fingerprint()

    def setup(self) -> None:
        """Load the model, and check that it is multilingual."""
        self._recogniser.resources = self.resources
        self._recogniser.setup()
        known = self._recogniser.loaded().languages
        if len(known) < 2:
            raise InfrastructureError(
                f"engine 'whisper': {self._recogniser.model} knows {known[0]} alone; name a multilingual model"
            )

    def close(self) -> None:
        """Release the model."""
        self._recogniser.close()

    def infer(self, clips: Sequence[Clip]) -> Rows:
        """Return the probability of each language for each clip; of none for digital silence."""
        loaded = self._recogniser.loaded()
        return [
            {"languages": loaded.language_probabilities(clip) if settings.is_audible(clip) else {}} for clip in clips
        ]
