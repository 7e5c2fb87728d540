"""The hook by which this distribution registers its engine with curate."""

from __future__ import annotations

from curate.plugin import AudioEngineRef, hookimpl


@hookimpl
def curate_audio_engines() -> list[AudioEngineRef]:
    """Register `dnsmos`, without importing it."""
    return [
        AudioEngineRef(
            name="dnsmos",
            target="curate_dnsmos.meter:DnsmosMeter",
            summary="DNSMOS P.835 and P.808 through onnxruntime, on the CPU",
            stage="speech_quality",
        )
    ]
