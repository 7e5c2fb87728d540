"""The base class of the engines of `spoken_language`, `speaker_embedding` and `speaker_consistency`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curate.models.model import AudioModel


class EngineModel(AudioModel):
    """A model that one of curate's measuring stages runs on windows of speech, by the name that a plugin announces.

    It is called with the stage's `options` as keyword arguments, in the driver (to check them) and in every worker.
    `writes` has the one column that the stage expects: `embedding`, a sequence of floats, or `languages`, a mapping of
    every language that it knows to its probability.
    """

    def check(self) -> None:
        """Check, without loading anything, that what it needs is installed.

        Raises:
            PlanError: what is missing, and how to install it.
        """

    def fingerprint(self) -> Mapping[str, Any]:
        """Return values that determine the rows in addition to the options, such as a model's sha256."""
        return {}
