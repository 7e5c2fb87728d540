"""The stage that measures levels, clipping and loudness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata, util
from typing import Any

import attrs

from curate.audio import Audio
from curate.audio_stage import AudioStage
from curate.errors import PlanError
from curate.records import DEFAULT_FILEPATH_KEY, Record
from curate.signal import LevelMeter, Levels, LoudnessMeter
from curate.stages.measure.blocks import frame_blocks


@dataclass
class AudioLevels(AudioStage):
    """Measures levels on the native frames of all channels, before any resampling or mixing.

    Of a record that names channels, as those of `split_channels` do, only these are measured.

    Writes `peak_dbfs`, `rms_dbfs`, `loudness_lufs` (BS.1770-4; null under 0.4 s, below −70 LUFS and below 8 kHz),
    `clipped_ratio` (samples in runs at full scale or in flat tops below it), `dc_offset`, `zero_ratio` (digital silence
    of at least 10 ms), `channel_balance_db` (loudest over quietest channel, at most 120) and `channel_correlation`
    (the lowest of all pairs). Levels of digital silence are null, and those of channels for mono.

    Args:
        filepath_key: the column that holds the path of the audio.
        loudness: measure `loudness_lufs`, which needs the extra `loudness`; otherwise the column is not written.
    """

    filepath_key: str = DEFAULT_FILEPATH_KEY
    loudness: bool = True

    def check(self) -> None:
        if self.loudness and util.find_spec("pyloudnorm") is None:
            raise PlanError(
                "loudness: needs pyloudnorm: pip install 'curate-speech[loudness]', or set `loudness: false`", self.name
            )

    def fingerprint(self) -> Mapping[str, Any]:
        return {"pyloudnorm": metadata.version("pyloudnorm")} if self.loudness else {}

    def writes(self) -> tuple[str, ...]:
        levels = tuple(field.name for field in attrs.fields(Levels))
        return (*levels, "loudness_lufs") if self.loudness else levels

    def process_audio(self, record: Record, audio: Audio) -> Record:
        named = audio.named_channels
        levels = LevelMeter(audio.rate_hz, len(named))
        loudness = LoudnessMeter(audio.rate_hz, len(named)) if self.loudness else None
        for every in frame_blocks(audio):
            frames = every if len(named) == audio.channels else every[:, named]
            levels.add(frames)
            if loudness is not None:
                loudness.add(frames)
        record.update(attrs.asdict(levels.levels()))
        if loudness is not None:
            record["loudness_lufs"] = loudness.loudness_lufs()
        return record
