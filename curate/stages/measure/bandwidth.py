"""The stage that measures the bandwidth of recordings."""

from __future__ import annotations

from dataclasses import dataclass

from curate.audio import Audio
from curate.audio_stage import AudioStage
from curate.records import DEFAULT_FILEPATH_KEY, Record
from curate.signal import BandwidthMeter
from curate.stages.measure.blocks import sample_blocks


@dataclass
class AudioBandwidth(AudioStage):
    """Measures the highest frequency that a recording holds, at its own rate: a codec's or a telephone's edge.

    Writes `bandwidth_hz` and `bandwidth_confidence`. A band counts where its power varies above the noise floor of the
    band, so noise over upsampled speech does not pass for bandwidth. Null under 0.4 s and for digital silence.

    Args:
        filepath_key: the column that holds the path of the audio.
    """

    filepath_key: str = DEFAULT_FILEPATH_KEY
    name = "bandwidth"

    def writes(self) -> tuple[str, ...]:
        return ("bandwidth_hz", "bandwidth_confidence")

    def process_audio(self, record: Record, audio: Audio) -> Record:
        meter = BandwidthMeter(audio.rate_hz, audio.duration_s)
        for samples in sample_blocks(audio, audio.rate_hz):
            meter.add(samples)
        measured = meter.bandwidth()
        record["bandwidth_hz"] = measured.bandwidth_hz
        record["bandwidth_confidence"] = measured.confidence
        return record
