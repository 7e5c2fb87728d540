"""The stage that measures how long each recording is."""

from __future__ import annotations

from dataclasses import dataclass

from curate.audio import Audio
from curate.audio_stage import AudioStage
from curate.records import DEFAULT_FILEPATH_KEY, Record


@dataclass
class AudioDuration(AudioStage):
    """Writes each record's `duration` in seconds: the decoded length of its audio.

    A record with an `offset` is a segment: its `duration` is as declared, or extends to the end of the recording.

    Args:
        filepath_key: the column that holds the path of the audio.
        only_missing: skip records that have a duration.
    """

    filepath_key: str = DEFAULT_FILEPATH_KEY
    only_missing: bool = False

    def writes(self) -> tuple[str, ...]:
        return ("duration",)

    def listens(self, record: Record) -> bool:
        known = record.get("duration") is not None
        return not (known and (self.only_missing or record.get("offset") is not None))

    def process_audio(self, record: Record, audio: Audio) -> Record:
        record["duration"] = round(audio.duration_s, 6)
        return record
