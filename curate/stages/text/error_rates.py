"""Compares what was recognised with what was written: word and character error rate."""

from __future__ import annotations

from dataclasses import dataclass

from curate.errors import RecordError
from curate.records import Record
from curate.stage import RecordStage
from curate.text import NORMALISERS, ErrorRate, character_errors, normaliser, word_errors


@dataclass
class _ErrorRateStage(RecordStage):
    """What word and character error rate share."""

    text_key: str = "text"
    pred_text_key: str = "pred_text"
    normaliser: str = "whisper-basic"

    def check(self) -> None:
        if self.normaliser not in NORMALISERS:  # only then, because making one loads its tables
            normaliser(self.normaliser)

    def reads(self) -> tuple[str, ...]:
        return (self.text_key, self.pred_text_key)

    def setup(self) -> None:
        self._normalise = normaliser(self.normaliser)
        self._normalise("")  # loads the tables now and not in the middle of the first batch

    def _texts(self, record: Record) -> tuple[str, str]:
        texts: list[str] = []
        for key in (self.text_key, self.pred_text_key):
            text = record.get(key)
            if text is None:
                raise RecordError("missing_column", f"the record has no {key!r} to compare")
            if not isinstance(text, str):
                raise RecordError("bad_value", f"{key} = {text!r:.80} is no text")
            texts.append(self._normalise(text))
        return texts[0], texts[1]


@dataclass
class WordErrorRate(_ErrorRateStage):
    """Writes the word error rate, (substitutions + deletions + insertions) / words of the reference.

    Args:
        text_key: the column with the reference.
        pred_text_key: the column with the recognised text.
        normaliser: `whisper-english` (numbers, spellings and contractions of English), `whisper-basic` (any language:
            case, punctuation, brackets), or `none`. `whisper-english` joins spoken digits into one word.
        wer_key: the column that is written, rounded to 4 digits.
    """

    wer_key: str = "wer"

    def writes(self) -> tuple[str, ...]:
        return (self.wer_key,)

    def process_record(self, record: Record) -> Record:
        record[self.wer_key] = _rounded(word_errors(*self._texts(record)))
        return record


@dataclass
class CharacterErrorRate(_ErrorRateStage):
    """Writes the character error rate, (substitutions + deletions + insertions) / characters of the reference.

    Args:
        text_key: the column with the reference.
        pred_text_key: the column with the recognised text.
        normaliser: as for `WordErrorRate`.
        cer_key: the column that is written, rounded to 4 digits.
    """

    cer_key: str = "cer"

    def writes(self) -> tuple[str, ...]:
        return (self.cer_key,)

    def process_record(self, record: Record) -> Record:
        record[self.cer_key] = _rounded(character_errors(*self._texts(record)))
        return record


def _rounded(errors: ErrorRate) -> float:
    return round(errors.rate, 4)
