"""The stage that measures the signal-to-noise ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from curate.audio import Audio
from curate.audio_stage import AudioStage
from curate.errors import RecordError
from curate.io.rows import is_finite_number
from curate.records import DEFAULT_FILEPATH_KEY, Record
from curate.signal import NoiseMeter
from curate.signal.noise import RATE_HZ
from curate.stages.measure.blocks import sample_blocks

Segments = list[tuple[float, float]]


@dataclass
class SpeechSnr(AudioStage):
    """Measures how far speech lies above noise.

    Writes `snr_db`. For a record with the column `speech`, as `voice_activity` writes it, the noise is the sound
    outside the segments; null where there is less than 0.5 s of either. For other records it is the floor of each
    frequency band. Writes also `snr_wada_db`, from the distribution of amplitudes alone (WADA; at most 60). Both ignore
    digital silence, and are null where less than 0.5 s of sound is left.

    Args:
        filepath_key: the column that holds the path of the audio.
        speech_key: the column with the segments that hold speech; records may lack it.
    """

    filepath_key: str = DEFAULT_FILEPATH_KEY
    speech_key: str = "speech"
    name = "snr"

    def writes(self) -> tuple[str, ...]:
        return ("snr_db", "snr_wada_db")

    def process_audio(self, record: Record, audio: Audio) -> Record:
        meter = NoiseMeter(segments_of(record, self.speech_key))
        for samples in sample_blocks(audio, RATE_HZ):
            meter.add(samples)
        ratios = meter.ratios()
        record["snr_db"], record["snr_wada_db"] = ratios.snr_db, ratios.snr_wada_db
        return record


def segments_of(record: Record, key: str) -> Segments | None:
    """Return the segments of a column, `[[start, end], …]` in seconds; None where the record has none.

    Raises:
        RecordError: `bad_value`: the value is something else, or the segments overlap or are not in order.
    """
    value = record.get(key)
    if value is None:
        return None
    segments: Segments = []
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for each in cast("Sequence[object]", value):
            pair = list(cast("Sequence[object]", each)) if isinstance(each, list | tuple) else []
            if len(pair) != 2 or not all(map(is_finite_number, pair)):
                break
            start_s, end_s = cast("tuple[float, float]", tuple(pair))
            if not (segments[-1][1] if segments else 0) <= start_s <= end_s:
                break
            segments.append((float(start_s), float(end_s)))
        else:
            return segments
    raise RecordError(
        "bad_value", f"{key} = {value!r:.80} is not a list of [start, end] in seconds, in order and apart"
    )
