"""What the stages that compare several transcripts of a record share: their texts, and how these are compared."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from curate.errors import PlanError, RecordError
from curate.plugin import resolved_setting
from curate.records import Record
from curate.resolution import PluginLookup
from curate.stage import RecordStage
from curate.stages.text.error_rates import describe_normaliser, resolve_normaliser
from curate.text.error_rates import ErrorRate, character_errors, word_errors
from curate.text.languages import language_code
from curate.text.normalisers import matches_digit_groups, takes_language


@dataclass
class OpinionsStage(RecordStage):
    """The base class of stages that compare several transcripts of a record. A null transcript is an empty one."""

    text_keys: Sequence[str] = field(default_factory=list[str])
    normaliser: str = field(default="auto", kw_only=True)
    lang_key: str = field(default="lang", kw_only=True)

    def resolve(self, host: PluginLookup) -> Self:
        return self.with_resolved(normaliser=resolve_normaliser(self.normaliser, host))

    def check(self) -> None:
        resolved_setting(self, "normaliser")
        if isinstance(self.text_keys, str) or len(self.text_keys) < 2:
            raise PlanError(f"text_keys={self.text_keys!r:.80}: give a list of two columns or more", self.name)
        if len(set(self.text_keys)) < len(self.text_keys):
            raise PlanError(f"text_keys={self.text_keys!r:.80}: a column is named twice", self.name)

    def fingerprint(self) -> Mapping[str, Any]:
        return describe_normaliser(resolved_setting(self, "normaliser"))

    def reads(self) -> Sequence[str]:
        return tuple(self.text_keys)

    def setup(self) -> None:
        self._normalise: Callable[..., str] = resolved_setting(self, "normaliser").value
        self._takes_language = takes_language(self._normalise)
        self._matches_digit_groups = matches_digit_groups(self._normalise)
        self._normalise("")  # loads the tables now, not during the first record

    def texts(self, record: Record) -> list[str]:
        """Return the transcripts as they are.

        Raises:
            RecordError: `missing_column`; `bad_value`: one is not a string.
        """
        texts: list[str] = []
        for key in self.text_keys:
            if key not in record:
                raise RecordError("missing_column", f"the record has no {key!r} to compare")
            text: object = record[key]
            if text is not None and not isinstance(text, str):
                raise RecordError("bad_value", f"{key} = {text!r:.80} is not a string")
            texts.append(text or "")
        return texts

    def normalised_by(self, record: Record) -> Callable[[str], str]:
        """Return the normaliser for the language of a record."""
        if not self._takes_language:
            return self._normalise
        return functools.partial(self._normalise, lang=language_code(record.get(self.lang_key)))

    def errors(self, record: Record, first: str, second: str) -> tuple[ErrorRate, ErrorRate]:
        """Return the word and the character errors of the second of two normalised transcripts against the first."""
        if self._matches_digit_groups:
            from curate.text.english import match_digit_groups

            first, second = match_digit_groups(first, second)
        lang = language_code(record.get(self.lang_key))
        return word_errors(first, second, "auto"), character_errors(first, second, lang)
