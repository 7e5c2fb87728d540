"""The hook by which this distribution registers its recogniser with curate."""

from __future__ import annotations

from curate.plugin import RecogniserRef, hookimpl


@hookimpl
def curate_recognisers() -> list[RecogniserRef]:
    """Register `pocketsphinx`, without importing it."""
    return [
        RecogniserRef(
            name="pocketsphinx",
            target="curate_pocketsphinx.recogniser:PocketSphinxRecogniser",
            summary="Transcribe English speech with PocketSphinx, on the CPU, with the model in its wheel",
            extra=None,
        )
    ]
