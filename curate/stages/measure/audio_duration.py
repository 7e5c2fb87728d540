"""The stage that measures the duration of each recording."""

from __future__ import annotations

from dataclasses import dataclass

from curate.audio import probe
from curate.errors import RecordError
from curate.io.rows import is_finite_number
from curate.records import DEFAULT_FILEPATH_KEY, Record
from curate.stage import RecordStage


@dataclass
class AudioDuration(RecordStage):
    """Writes each record's `duration` in seconds, from the file's header, which is checked against the file.

    A record with an `offset` is a segment: its `duration` is kept, or set to the rest of the file if it is missing.

    Args:
        filepath_key: the column that holds the path of the audio.
        only_missing: do not measure records that have a duration.
    """

    filepath_key: str = DEFAULT_FILEPATH_KEY
    only_missing: bool = False

    def reads(self) -> tuple[str, ...]:
        return (self.filepath_key,)

    def writes(self) -> tuple[str, ...]:
        return ("duration",)

    def process_record(self, record: Record) -> Record:
        known = record.get("duration") is not None
        offset_s = record.get("offset")
        if known and (self.only_missing or offset_s is not None):
            return record
        path = record.get(self.filepath_key)
        if path is None:
            raise RecordError("missing_column", f"the record has no {self.filepath_key!r}")
        duration_s = probe(path, roots=self.context.audio_roots).duration_s
        if offset_s is not None:
            if not is_finite_number(offset_s) or offset_s < 0:
                raise RecordError("bad_value", f"offset = {offset_s!r:.80} is not a number of seconds")
            if offset_s >= duration_s:
                raise RecordError("bad_segment", f"offset {offset_s} s is past the end of the file at {duration_s} s")
            duration_s -= offset_s
        record["duration"] = round(duration_s, 6)
        return record
