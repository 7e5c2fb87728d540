"""The stage that measures how fast a transcript is spoken."""

from __future__ import annotations

from dataclasses import dataclass

from curate.errors import RecordError
from curate.io.rows import is_finite_number
from curate.records import Record
from curate.stage import RecordStage
from curate.stages.text.normalise import text_of
from curate.text.languages import language_code
from curate.text.script_rules import apply_script_rules
from curate.text.scripts import is_unspaced


@dataclass
class TextRates(RecordStage):
    """Writes `chars_per_s` and `words_per_s` of a transcript, to find transcripts of other audio and wrong durations.

    Letters, digits and marks are counted, without blanks, punctuation and noise tags. `words_per_s` is null in scripts
    that separate words by no blank; both are null for a null text.

    Args:
        text_key: the column with the text.
        duration_key: the column with the duration in seconds.
        lang_key: the column with the language; records may lack it.
    """

    text_key: str = "text"
    duration_key: str = "duration"
    lang_key: str = "lang"

    def reads(self) -> tuple[str, ...]:
        return (self.text_key, self.duration_key)

    def writes(self) -> tuple[str, ...]:
        return ("chars_per_s", "words_per_s")

    def process_record(self, record: Record) -> Record:
        text = text_of(record, self.text_key)
        if text is None:
            record.update(dict.fromkeys(self.writes()))
            return record
        seconds = record.get(self.duration_key)
        if seconds is None:
            raise RecordError("missing_column", f"the record has no {self.duration_key!r}; use audio_duration before")
        if not is_finite_number(seconds) or seconds <= 0:
            raise RecordError("bad_value", f"{self.duration_key} = {seconds!r:.80} is not a number of seconds above 0")
        normalised = apply_script_rules(text, language_code(record.get(self.lang_key)))
        words = normalised.split()
        record["chars_per_s"] = round(sum(map(len, words)) / seconds, 3)
        record["words_per_s"] = None if is_unspaced(normalised) else round(len(words) / seconds, 3)
        return record
