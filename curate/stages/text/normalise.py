"""The stage that writes a normalised copy of a transcript."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from curate.errors import PlanError, RecordError
from curate.plugin import resolved_setting
from curate.records import Record
from curate.resolution import PluginLookup, Resolved
from curate.stage import RecordStage
from curate.stages.text.error_rates import describe_normaliser, resolve_normaliser
from curate.text.languages import language_code
from curate.text.normalisers import takes_language
from curate.text.rule_files import build_rules, load_rules, preset_rules


def _default_presets() -> list[str]:
    return ["quotes", "dashes", "ellipses", "invisible"]


@dataclass
class NormaliseText(RecordStage):
    """Writes a transcript with presets, the rules of a file and a normaliser applied, in this order.

    The default presets leave words, case and sentence punctuation as they are. A rule file holds `presets`, `rules`
    (`replace` or `pattern`, and `with`) and `tests`, which run when the pipeline is planned.

    Args:
        text_key: the column with the text; null stays null.
        output_key: the column that is written; `text` overwrites the text, case and punctuation included.
        presets: `quotes`, `dashes`, `ellipses`, `brackets`, `music` and `invisible`.
        rules: the path of a rule file (`.yaml`); empty: none.
        normaliser: as for `WordErrorRate`; `none` leaves case and punctuation as they are.
        lang_key: the column with the language, for normalisers that know languages; records may lack it.
    """

    text_key: str = "text"
    output_key: str = "text_norm"
    presets: Sequence[str] = field(default_factory=_default_presets)
    rules: str = ""
    normaliser: str = "none"
    lang_key: str = "lang"

    def resolve(self, host: PluginLookup) -> Self:
        return self.with_resolved(normaliser=resolve_normaliser(self.normaliser, host), rules=Resolved(self._load()))

    def _load(self) -> Sequence[Callable[[str], str]]:
        if isinstance(self.presets, str):
            raise PlanError(f"presets={self.presets!r:.80}: must be a list of names")
        loaded = [build_rules(preset_rules(self.presets), "presets")]
        return [*loaded, load_rules(Path(self.rules))] if self.rules else loaded

    def check(self) -> None:
        resolved_setting(self, "normaliser")

    def fingerprint(self) -> Mapping[str, Any]:
        rules: Sequence[Any] = resolved_setting(self, "rules").value
        return {
            **describe_normaliser(resolved_setting(self, "normaliser")),
            "rules_code": [each.fingerprint for each in rules],
        }

    def reads(self) -> tuple[str, ...]:
        return (self.text_key,)

    def writes(self) -> tuple[str, ...]:
        return (self.output_key,)

    def setup(self) -> None:
        self._normalise: Callable[..., str] = resolved_setting(self, "normaliser").value
        self._takes_language = takes_language(self._normalise)
        self._rules: Sequence[Callable[[str], str]] = resolved_setting(self, "rules").value
        self._normalise("")

    def process_record(self, record: Record) -> Record:
        text = text_of(record, self.text_key)
        if text is None:
            record[self.output_key] = None
            return record
        for rules in self._rules:
            text = rules(text)
        lang = language_code(record.get(self.lang_key))
        normalise = functools.partial(self._normalise, lang=lang) if self._takes_language else self._normalise
        record[self.output_key] = normalise(text)
        return record


def text_of(record: Record, key: str) -> str | None:
    """Return the text of a record, which may be null.

    Raises:
        RecordError: the record lacks the column, or the value is not a string.
    """
    if key not in record:
        raise RecordError("missing_column", f"the record has no {key!r}")
    text = record[key]
    if text is not None and not isinstance(text, str):
        raise RecordError("bad_value", f"{key} = {text!r:.80} is not a string")
    return text
