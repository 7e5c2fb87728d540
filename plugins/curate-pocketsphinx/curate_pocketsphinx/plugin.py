"""What this distribution announces to curate: one recogniser, by name."""

from __future__ import annotations

from curate.plugin import RecogniserRef, hookimpl


@hookimpl
def curate_recognisers() -> list[RecogniserRef]:
    """Announce `pocketsphinx`, without importing it."""
    return [
        RecogniserRef(
            name="pocketsphinx",
            target="curate_pocketsphinx.recogniser:PocketSphinxRecogniser",
            summary="Transcribe English speech with PocketSphinx, on the CPU, with the model that its wheel carries",
            extra=None,
        )
    ]
