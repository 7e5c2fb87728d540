"""The stage that gives recordings one loudness."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata, util
from typing import Any

from curate.audio import Audio
from curate.audio_stage import AudioStage
from curate.errors import PlanError
from curate.records import DEFAULT_FILEPATH_KEY, Record
from curate.signal import LoudnessMeter
from curate.stages.measure.blocks import frame_blocks


@dataclass
class NormaliseLoudness(AudioStage):
    """Writes new audio whose integrated loudness (BS.1770-4) is that of all others, by one gain for the recording.

    The gain is limited so that no sample exceeds `max_peak_dbfs`; such a recording stays below the target. Writes
    `loudness_before_lufs`, `loudness_after_lufs`, and `gain_db`. What has no loudness (shorter than 0.4 s, silence, a
    rate below 8 kHz) stays as it is: `gain_db` is null. So does what is nearer to the target than `tolerance_db`: the
    gain is 0. New audio has 16 bits and the recording's own rate and channels.

    Args:
        filepath_key: the column that holds the path of the audio.
        target_lufs: the loudness; −23 is that of EBU R 128.
        max_peak_dbfs: the highest sample after the gain.
        tolerance_db: a smaller gain is not applied.
    """

    filepath_key: str = DEFAULT_FILEPATH_KEY
    target_lufs: float = -23.0
    max_peak_dbfs: float = -1.0
    tolerance_db: float = 0.1

    def check(self) -> None:
        if util.find_spec("pyloudnorm") is None:
            raise PlanError("normalise_loudness needs pyloudnorm: pip install 'curate-speech[loudness]'", self.name)
        if not -60 <= self.target_lufs <= 0 or not -60 <= self.max_peak_dbfs <= 0 or not 0 <= self.tolerance_db <= 20:
            raise PlanError(
                "normalise_loudness: target_lufs and max_peak_dbfs must be -60 to 0, and tolerance_db 0 to 20",
                self.name,
            )

    def fingerprint(self) -> Mapping[str, Any]:
        return {"pyloudnorm": metadata.version("pyloudnorm")}

    def writes(self) -> tuple[str, ...]:
        return ("duration", "loudness_before_lufs", "loudness_after_lufs", "gain_db")

    def process_audio(self, record: Record, audio: Audio) -> Record:
        import numpy as np

        meter = LoudnessMeter(audio.rate_hz, audio.channels)
        peak = 0.0
        for frames in frame_blocks(audio):
            meter.add(frames)
            peak = max(peak, float(np.abs(frames).max()))
        before = meter.loudness_lufs()
        record.update(loudness_before_lufs=before, loudness_after_lufs=before, gain_db=None)
        if before is None:
            return record
        gain_db = round(min(self.target_lufs - before, self.max_peak_dbfs - 20 * math.log10(peak)), 2) + 0.0
        if abs(gain_db) < self.tolerance_db:
            record["gain_db"] = 0.0
            return record
        samples = audio.native() * np.float32(10 ** (gain_db / 20))
        mono_or_all = samples[:, 0] if audio.channels == 1 else samples
        record.update(loudness_after_lufs=round(before + gain_db, 2), gain_db=gain_db)
        return self.context.new_audio(record, mono_or_all, audio.rate_hz)
