"""The stage that measures the pitch of a voice."""

from __future__ import annotations

from dataclasses import dataclass

from curate.audio import Audio
from curate.audio_stage import AudioStage
from curate.records import DEFAULT_FILEPATH_KEY, Record
from curate.signal import PitchMeter
from curate.signal.pitch import RATE_HZ
from curate.stages.measure.blocks import sample_blocks


@dataclass
class VoicePitch(AudioStage):
    """Measures the fundamental frequency of the voice, 60 to 500 Hz, by YIN.

    Writes `pitch_hz` (the median of the voiced frames), `pitch_low_hz` and `pitch_high_hz` (what 10 % and 90 % of them
    do not exceed), and `voiced_ratio`. The frequencies are null where less than 0.2 s are voiced.

    Args:
        filepath_key: the column that holds the path of the audio.
    """

    filepath_key: str = DEFAULT_FILEPATH_KEY
    name = "pitch"

    def writes(self) -> tuple[str, ...]:
        return ("pitch_hz", "pitch_low_hz", "pitch_high_hz", "voiced_ratio")

    def process_audio(self, record: Record, audio: Audio) -> Record:
        meter = PitchMeter()
        for samples in sample_blocks(audio, RATE_HZ):
            meter.add(samples)
        pitch = meter.pitch()
        record["pitch_hz"], record["voiced_ratio"] = pitch.median_hz, pitch.voiced_ratio
        record["pitch_low_hz"], record["pitch_high_hz"] = pitch.low_hz, pitch.high_hz
        return record
