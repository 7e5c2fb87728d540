"""The hook by which this distribution registers its recogniser with curate."""

from __future__ import annotations

from curate.plugin import RecogniserRef, hookimpl


@hookimpl
def curate_recognisers() -> list[RecogniserRef]:
    """Register `transformers`, without importing it."""
    return [
        RecogniserRef(
            name="transformers",
            target="curate_transformers.recogniser:TransformersRecogniser",
            summary="Transcribe speech with any CTC or sequence-to-sequence checkpoint of Hugging Face",
            extra=None,
        )
    ]
