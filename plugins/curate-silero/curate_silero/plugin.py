"""The hook by which this distribution registers its voice detector with curate."""

from __future__ import annotations

from curate.plugin import VoiceDetectorRef, hookimpl


@hookimpl
def curate_voice_detectors() -> list[VoiceDetectorRef]:
    """Register `silero`, without importing it."""
    return [
        VoiceDetectorRef(
            name="silero",
            target="curate_silero.detector:SileroDetector",
            summary="Silero VAD through onnxruntime, on the CPU",
        )
    ]
