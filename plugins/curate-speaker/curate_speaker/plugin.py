"""The hook by which this distribution registers its engine with curate."""

from __future__ import annotations

from curate.plugin import AudioEngineRef, hookimpl


@hookimpl
def curate_audio_engines() -> list[AudioEngineRef]:
    """Register `resemblyzer`, without importing it."""
    return [
        AudioEngineRef(
            name="resemblyzer",
            target="curate_speaker.encoder:ResemblyzerEncoder",
            summary="The speaker encoder of Resemblyzer (GE2E), on the CPU or a GPU",
            stage="speaker_embedding",
        )
    ]
