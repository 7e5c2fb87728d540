"""A stage that decodes every record's audio; importable, so that workers elsewhere can have it."""

from __future__ import annotations

from curate import RecordStage
from curate.audio import load_record
from curate.records import Record


class Hears(RecordStage):
    def reads(self) -> tuple[str, ...]:
        return ("audio_filepath",)

    def writes(self) -> tuple[str, ...]:
        return ("samples",)

    def process_record(self, record: Record) -> Record:
        return {**record, "samples": len(load_record(record, roots=self.context.audio_roots))}
