"""The composite stage of all measures of a signal that need no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curate.composite import CompositeStage
from curate.records import DEFAULT_FILEPATH_KEY
from curate.stage import Stage
from curate.stages.measure.bandwidth import AudioBandwidth
from curate.stages.measure.levels import AudioLevels
from curate.stages.measure.pitch import VoicePitch
from curate.stages.measure.snr import SpeechSnr


@dataclass
class AudioProfile(CompositeStage):
    """Measures `audio_levels`, `snr`, `bandwidth` and `pitch` in one pass: each recording is decoded once.

    It ends a phase, so a filter behind it can get another threshold (`--fork`) without another decoding.

    Args:
        filepath_key: the column that holds the path of the audio.
        loudness: measure `loudness_lufs`, which needs the extra `loudness`.
        pitch: measure the pitch, which takes longer than the other measures together.
    """

    filepath_key: str = DEFAULT_FILEPATH_KEY
    loudness: bool = True
    pitch: bool = True

    def decompose(self) -> Sequence[Stage]:
        key = self.filepath_key
        measures: list[Stage] = [AudioLevels(key, loudness=self.loudness), SpeechSnr(key), AudioBandwidth(key)]
        if self.pitch:
            measures.append(VoicePitch(key))
        return [*measures[:-1], measures[-1].with_(checkpoint=True)]
