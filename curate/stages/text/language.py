"""The stage that identifies the language of a transcript."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curate.errors import PlanError
from curate.records import Record
from curate.stage import RecordStage
from curate.stages.text.normalise import text_of
from curate.text.language_identification import (
    check_identification,
    count_letters,
    identification_version,
    load_identification,
)


@dataclass
class TextLanguage(RecordStage):
    """Writes the language of a transcript, to find those in another than the record says.

    Columns: `text_lang`, a code such as `en` (ISO 639-1, or 639-3 where there is none of two letters), and
    `text_lang_prob`. Both are null for a transcript of few letters, in which the model sees too little; `text_lang` is
    null where no language is probable enough. The model of fastText knows 176 languages and lies inside the package.

    Args:
        text_key: the column with the text.
        min_letters: the fewest letters that are looked at; a Chinese, Japanese or Korean one counts as three.
        min_prob: the least probability for which `text_lang` is written.
        model: the path of another model of fastText, such as `lid.176.bin`; empty: the one in the package.
    """

    text_key: str = "text"
    min_letters: int = 20
    min_prob: float = 0.3
    model: str = ""

    def check(self) -> None:
        if self.min_letters < 1:
            raise PlanError(f"min_letters={self.min_letters!r:.80}: must be at least 1")
        if not 0 <= self.min_prob <= 1:
            raise PlanError(f"min_prob={self.min_prob!r:.80}: must be between 0 and 1")
        check_identification(self.model)

    def fingerprint(self) -> Mapping[str, Any]:
        return {"language_model": identification_version(self.model)}

    def reads(self) -> tuple[str, ...]:
        return (self.text_key,)

    def writes(self) -> tuple[str, ...]:
        return ("text_lang", "text_lang_prob")

    def setup(self) -> None:
        self._identify = load_identification(self.model)

    def process_record(self, record: Record) -> Record:
        text = text_of(record, self.text_key)
        record["text_lang"] = record["text_lang_prob"] = None
        if text is not None and count_letters(text) >= self.min_letters:
            code, probability = self._identify(text)
            record["text_lang_prob"] = round(probability, 3)
            record["text_lang"] = code if probability >= self.min_prob else None
        return record
