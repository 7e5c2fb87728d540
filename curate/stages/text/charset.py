"""The stage that compares the letters of a transcript with the alphabet of its language."""

from __future__ import annotations

from dataclasses import dataclass

from curate.errors import PlanError
from curate.records import Record
from curate.stage import RecordStage
from curate.stages.text.normalise import text_of
from curate.text.alphabets import alphabet_of, share_in_alphabet
from curate.text.languages import language_code

_MOST_SHOWN = 20


@dataclass
class Charset(RecordStage):
    """Writes the share of a transcript's letters that are in the alphabet of its language, to find text in another.

    Columns: `charset_share` (inside; keep from 0.8 on), `charset_outside` (1 − that), and `charset_unknown`, at most 20
    of the letters outside. They are null for a transcript without letters and for a language without data.

    Args:
        text_key: the column with the text.
        lang_key: the column with the language; records may lack it.
        lang: the language of records that lack it; empty: unknown.
    """

    text_key: str = "text"
    lang_key: str = "lang"
    lang: str = ""

    def check(self) -> None:
        code = language_code(self.lang)
        if self.lang and (code is None or alphabet_of(code) is None):
            raise PlanError(f"lang={self.lang!r:.80}: its alphabet is unknown; leave it empty, or use BCP-47")

    def reads(self) -> tuple[str, ...]:
        return (self.text_key,)

    def writes(self) -> tuple[str, ...]:
        return ("charset_share", "charset_outside", "charset_unknown")

    def process_record(self, record: Record) -> Record:
        text = text_of(record, self.text_key)
        code = language_code(record.get(self.lang_key)) or language_code(self.lang)
        alphabet = alphabet_of(code) if code else None
        share, unknown = share_in_alphabet(text, alphabet) if text is not None and alphabet else (None, None)
        if share is None:
            record.update(dict.fromkeys(self.writes()))
            return record
        values = (round(share, 4), round(1 - share, 4), (unknown or "")[:_MOST_SHOWN])
        record.update(zip(self.writes(), values, strict=True))
        return record
