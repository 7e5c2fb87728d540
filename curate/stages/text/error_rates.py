"""The error rate stages: word and character error rate of the recognised text against the reference."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

from curate.errors import PlanError, RecordError
from curate.fingerprint import describe_code
from curate.monitoring import add_measures
from curate.plugin import NormaliserRef, resolved_setting
from curate.records import Record
from curate.resolution import PluginLookup, Resolved
from curate.stage import RecordStage
from curate.text.error_rates import ErrorRate, character_errors, edge_errors, word_errors
from curate.text.languages import language_code
from curate.text.normalisers import Normaliser, matches_digit_groups, takes_argument, takes_language
from curate.text.orthography import case_and_punctuation_errors
from curate.text.rule_files import RULE_FILE_SUFFIXES, load_rules
from curate.text.scripts import Level

NULL_REFERENCES = ("fail", "empty", "skip")
_LEVELS = ("word", "character", "auto")
_MOST_GROUPS = 200
"""The most values of the column `by` whose rates the summary holds; the records of others are added under `(other)`."""


def resolve_normaliser(name: str, host: PluginLookup) -> Resolved:
    """Return the function that a `normaliser` setting names: announced, `package.module:function`, or a rule file.

    Raises:
        PluginError: nothing of that name, or it cannot be imported.
        PlanError: the rule file is missing or wrong, or one of its tests fails.
    """
    found = _normaliser(name, host)
    if takes_argument(found.value, "texts"):
        raise PlanError(f"normaliser={name!r} works on many texts at the same time; it is an engine of `punctuate`")
    return found


def describe_normaliser(found: Resolved) -> dict[str, Any]:
    """Return the part of a stage's fingerprint that is its normaliser: the code, or the fingerprint of a rule file."""
    code = getattr(found.value, "fingerprint", None)  # of a rule file
    return {
        "normaliser_code": describe_code(found.value) if code is None else code,
        "normaliser_version": found.version,
    }


def resolve_rewriter(name: str, host: PluginLookup) -> Resolved:
    """Return the function that an `engine` setting names, in the same ways; see `curate.text.rewriting`."""
    return _normaliser(name, host)


def _normaliser(name: str, host: PluginLookup) -> Resolved:
    if name.endswith(RULE_FILE_SUFFIXES):
        return Resolved(load_rules(Path(name)))
    if ":" in name:
        return Resolved(NormaliserRef(name.rpartition(":")[2], name, "a function of the pipeline's author").load())
    reference = host.normaliser(name)
    return Resolved(reference.load(), reference.distribution)


@dataclass
class _ErrorRateStage(RecordStage):
    """The base class of the error rate stages."""

    text_key: str = "text"
    pred_text_key: str = "pred_text"
    normaliser: str = "auto"

    def resolve(self, host: PluginLookup) -> Self:
        return self.with_resolved(normaliser=resolve_normaliser(self.normaliser, host))

    def check(self) -> None:
        resolved_setting(self, "normaliser")
        if self._null_reference() not in NULL_REFERENCES:
            raise PlanError(f"null_reference={self._null_reference()!r:.80}: choose from {', '.join(NULL_REFERENCES)}")

    def fingerprint(self) -> Mapping[str, Any]:
        return describe_normaliser(resolved_setting(self, "normaliser"))

    def reads(self) -> tuple[str, ...]:
        return (self.text_key, self.pred_text_key)

    def setup(self) -> None:
        self._normalise: Normaliser = resolved_setting(self, "normaliser").value
        self._takes_language = takes_language(self._normalise)
        self._matches_digit_groups = matches_digit_groups(self._normalise)
        self._new_measures: dict[str, Any] = {}
        self._normalise("")  # loads the tables now, not during the first batch

    def _null_reference(self) -> str:
        raise NotImplementedError

    def _texts(self, record: Record) -> tuple[str, str] | None:
        """Return both texts as they are; None: there is no reference, and `null_reference` says to skip it."""
        reference = self._text(record, self.text_key)
        if reference is None:
            if self._null_reference() == "skip":
                return None
            if self._null_reference() == "fail":
                raise RecordError(
                    "missing_column",
                    f"{self.text_key!r} is null, so there is nothing to compare with; "
                    "null_reference: skip writes null rates, and null_reference: empty takes it for a pause",
                )
        return reference or "", self._text(record, self.pred_text_key) or ""

    @staticmethod
    def _text(record: Record, key: str) -> str | None:
        if key not in record:
            raise RecordError("missing_column", f"the record has no {key!r} to compare")
        text = record[key]
        if text is not None and not isinstance(text, str):
            raise RecordError("bad_value", f"{key} = {text!r:.80} is not a string")
        return text

    def _normalised(self, texts: tuple[str, str], lang: str | None) -> tuple[str, str]:
        normalise = functools.partial(self._normalise, lang=lang) if self._takes_language else self._normalise
        reference, hypothesis = map(normalise, texts)
        if self._matches_digit_groups:
            from curate.text.english import match_digit_groups

            return match_digit_groups(reference, hypothesis)
        return reference, hypothesis

    def _count(self, rate_key: str, by: str, record: Record, errors: ErrorRate) -> None:
        counts = {"records": 1, "errors": errors.errors, "reference_length": errors.reference_length}
        total = self._new_measures.setdefault(rate_key, {"all": {}, "by": {}})
        total["all"] = add_measures(total["all"], counts)
        if by:
            groups = total["by"]
            value = str(record.get(by))[:80]
            value = value if value in groups or len(groups) < _MOST_GROUPS else "(other)"
            groups[value] = add_measures(groups.get(value, {}), counts)

    def take_measures(self) -> Mapping[str, Any]:
        taken, self._new_measures = self._new_measures, {}
        return taken

    def describe_measures(self, measures: Mapping[str, Any]) -> Mapping[str, Any]:
        return dict(_corpus_rates(measures, getattr(self, "by", "")))


def _corpus_rates(measures: Mapping[str, Any], by: str) -> Iterator[tuple[str, Any]]:
    for name, total in measures.items():
        yield f"corpus_{name}", _corpus_rate(total["all"])
        yield f"{name}_errors", total["all"]["errors"]
        yield f"{name}_reference_length", total["all"]["reference_length"]
        groups = cast("Mapping[str, Mapping[str, int]]", total.get("by") or {})
        if groups:
            # Each worker's part has at most _MOST_GROUPS values, and their sum may have more.
            largest = sorted(groups, key=lambda value: (-groups[value]["records"], value))[:_MOST_GROUPS]
            yield f"corpus_{name}_by_{by}", {value: _corpus_rate(groups[value]) for value in sorted(largest)}


def _corpus_rate(counts: Mapping[str, int]) -> float:
    return round(counts["errors"] / max(counts["reference_length"], 1), 4)


@dataclass
class WordErrorRate(_ErrorRateStage):
    """Writes the word error rate, (substitutions + deletions + insertions) / words of the reference, and its counts.

    An empty reference is a pause: recognised as one, its rate is 0.0; a hallucination on it has as many errors as words
    and counts as if the reference had one word, so that its rate is the number of words. A null hypothesis counts as an
    empty one. `summary.json` holds the corpus rate, all errors / all words, as the stage's `performance`.

    Args:
        text_key: the column with the reference.
        pred_text_key: the column with the recognised text.
        normaliser: `auto` (the rules of the record's language, or of its script where `lang` is unknown), `script`,
            `whisper-english` (numbers, spellings and contractions of English), `whisper-basic`, `none`, one that a
            plugin announces, `package.module:function`, or the path of a rule file (`.yaml`).
        wer_key: the column that is written, rounded to 4 digits; the columns of the counts begin with its name.
        lang_key: the column with the language, as BCP-47 or any code of `curate.text.languages`; records may lack it.
        level: `word`: what blanks separate; `character`; `auto`: words, and characters where a script separates words
            by no blank (Chinese, Japanese, Thai, Lao, Khmer, Burmese).
        min_words: the rate of a record with fewer words in the reference is null, since one error would be most of it;
            its counts are written.
        null_reference: for a reference that is null: `fail` (quarantine), `empty` (a pause) or `skip` (all columns
            null).
        case_and_punctuation: also writes `case_error_rate` and `punctuation_error_rate`, of the texts as they are.
        by: a column, such as `lang`, for each value of which the summary holds the corpus rate.
    """

    wer_key: str = "wer"
    lang_key: str = "lang"
    level: str = "auto"
    min_words: int = 0
    null_reference: str = "fail"
    case_and_punctuation: bool = False
    by: str = ""

    def check(self) -> None:
        super().check()
        if self.level not in _LEVELS:
            raise PlanError(f"level={self.level!r:.80}: choose from {', '.join(_LEVELS)}")
        if self.min_words < 0:
            raise PlanError(f"min_words={self.min_words!r:.80}: must be at least 0; 0 rates every record")

    def _null_reference(self) -> str:
        return self.null_reference

    def writes(self) -> tuple[str, ...]:
        counts = ("errors", "ref_words", "ins", "del", "sub", "max_ins_run", "max_del_run")
        spelling = ("case_error_rate", "punctuation_error_rate") if self.case_and_punctuation else ()
        return (self.wer_key, *(f"{self.wer_key}_{count}" for count in counts), *spelling)

    def process_record(self, record: Record) -> Record:
        texts = self._texts(record)
        if texts is None:
            record.update(dict.fromkeys(self.writes()))
            return record
        normalised = self._normalised(texts, language_code(record.get(self.lang_key)))
        errors = word_errors(*normalised, cast("Level", self.level))
        values: list[float | int | None] = [
            None if errors.reference_length < self.min_words else _rounded(errors),
            errors.errors,
            errors.reference_length,
            errors.insertions,
            errors.deletions,
            errors.substitutions,
            errors.max_insertion_run,
            errors.max_deletion_run,
        ]
        if self.case_and_punctuation:
            values += (round(rate, 4) for rate in case_and_punctuation_errors(*texts))
        record.update(zip(self.writes(), values, strict=True))
        self._count(self.wer_key, self.by, record, errors)
        return record


@dataclass
class CharacterErrorRate(_ErrorRateStage):
    """Writes the character error rate, (substitutions + deletions + insertions) / characters of the reference.

    `start_cer` and `end_cer` compare the first and the last 12 characters of both texts, to find audio that was cut
    within a word and transcripts of the neighbouring audio. Empty and null texts count as for `WordErrorRate`.

    Args:
        text_key: the column with the reference.
        pred_text_key: the column with the recognised text.
        normaliser: as for `WordErrorRate`.
        cer_key: the column that is written, rounded to 4 digits; the names of the others contain it.
        lang_key: the column with the language; in `zh yue ja th lo km my` blanks are not counted. Without a language
            this holds next to characters of these scripts.
        null_reference: as for `WordErrorRate`.
        by: as for `WordErrorRate`.
    """

    cer_key: str = "cer"
    lang_key: str = "lang"
    null_reference: str = "fail"
    by: str = ""

    def _null_reference(self) -> str:
        return self.null_reference

    def writes(self) -> tuple[str, ...]:
        cer = self.cer_key
        return (cer, f"{cer}_errors", f"{cer}_ref_chars", f"start_{cer}", f"end_{cer}")

    def process_record(self, record: Record) -> Record:
        texts = self._texts(record)
        if texts is None:
            record.update(dict.fromkeys(self.writes()))
            return record
        lang = language_code(record.get(self.lang_key))
        normalised = self._normalised(texts, lang)
        errors = character_errors(*normalised, lang)
        start, end = edge_errors(*normalised, lang)
        values = (_rounded(errors), errors.errors, errors.reference_length, _rounded(start), _rounded(end))
        record.update(zip(self.writes(), values, strict=True))
        self._count(self.cer_key, self.by, record, errors)
        return record


def _rounded(errors: ErrorRate) -> float:
    return round(errors.rate, 4)
