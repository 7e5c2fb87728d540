"""The error rate stages: word and character error rate of the recognised text against the reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from curate.errors import RecordError
from curate.fingerprint import describe_code
from curate.plugin import resolved_setting
from curate.records import Record
from curate.resolution import PluginLookup, Resolved
from curate.stage import RecordStage
from curate.text import ErrorRate, Normaliser, character_errors, word_errors


@dataclass
class _ErrorRateStage(RecordStage):
    """The base class of the error rate stages."""

    text_key: str = "text"
    pred_text_key: str = "pred_text"
    normaliser: str = "whisper-basic"

    def resolve(self, host: PluginLookup) -> Self:
        reference = host.normaliser(self.normaliser)
        return self.with_resolved(normaliser=Resolved(reference.load(), reference.distribution))

    def check(self) -> None:
        resolved_setting(self, "normaliser")

    def fingerprint(self) -> Mapping[str, Any]:
        found = resolved_setting(self, "normaliser")
        return {"normaliser_code": describe_code(found.value), "normaliser_version": found.version}

    def reads(self) -> tuple[str, ...]:
        return (self.text_key, self.pred_text_key)

    def setup(self) -> None:
        self._normalise: Normaliser = resolved_setting(self, "normaliser").value
        self._normalise("")  # loads the tables now, not during the first batch

    def _texts(self, record: Record) -> tuple[str, str]:
        texts: list[str] = []
        for key in (self.text_key, self.pred_text_key):
            text = record.get(key)
            if text is None:
                raise RecordError("missing_column", f"the record has no {key!r} to compare")
            if not isinstance(text, str):
                raise RecordError("bad_value", f"{key} = {text!r:.80} is not a string")
            texts.append(self._normalise(text))
        return texts[0], texts[1]


@dataclass
class WordErrorRate(_ErrorRateStage):
    """Writes the word error rate, (substitutions + deletions + insertions) / words of the reference.

    Args:
        text_key: the column with the reference.
        pred_text_key: the column with the recognised text.
        normaliser: `whisper-english` (numbers, spellings and contractions of English), `whisper-basic` (any language:
            case, punctuation, brackets), `none`, or one that a plugin announces. `whisper-english` joins spoken digits
            into one word.
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
