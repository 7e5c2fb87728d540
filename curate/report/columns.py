"""Which columns of the records a report is about: lengths, error rates, texts, and what the filters compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from curate.errors import PlanError
from curate.expressions import Expression
from curate.records import DEFAULT_FILEPATH_KEY

DURATION = "duration"
SPEAKING_RATE = "words per second"

_MAX_COLUMNS = 8


@attrs.frozen
class Threshold:
    """What a filter demands of a column, drawn as a line."""

    stage: str
    column: str
    operator: str
    value: float


@attrs.frozen
class Comparison:
    """An error rate that a stage writes, and the texts that it compares; `unit` is `word` or `character`."""

    stage: str
    column: str
    reference: str
    hypothesis: str
    normaliser: str
    unit: str


@attrs.frozen
class Columns:
    """What a report looks at.

    Args:
        measured: the columns that are counted in histograms, in the order in which they are shown.
        text: the column with the reference text.
        filepath: the column with the path of the audio.
    """

    measured: tuple[str, ...]
    thresholds: tuple[Threshold, ...]
    comparison: Comparison | None
    text: str
    filepath: str


def columns_of(settings: Mapping[str, Mapping[str, Any]]) -> Columns:
    """Find out from the stages' settings what there is to look at; a plugin's stage counts if its fields are called
    like those of ours (`text_key`, `pred_text_key`, `wer_key` or `cer_key`, `expression`)."""
    thresholds = [threshold for stage, own in settings.items() for threshold in _thresholds(stage, own)]
    comparisons = [found for stage, own in settings.items() if (found := _comparison(stage, own)) is not None]
    comparisons.sort(key=lambda found: found.unit != "word")
    rates = [found.column for found in comparisons]
    measured = dict.fromkeys((DURATION, *rates, SPEAKING_RATE, *(threshold.column for threshold in thresholds)))
    paths = [str(own["filepath_key"]) for own in settings.values() if own.get("filepath_key")]
    return Columns(
        measured=tuple(measured)[:_MAX_COLUMNS],
        thresholds=tuple(thresholds),
        comparison=comparisons[0] if comparisons else None,
        text=comparisons[0].reference if comparisons else "text",
        filepath=paths[0] if paths else DEFAULT_FILEPATH_KEY,
    )


def _thresholds(stage: str, own: Mapping[str, Any]) -> Sequence[Threshold]:
    expression, column, operator, value = (own.get(name) for name in ("expression", "column", "operator", "value"))
    if isinstance(expression, str):
        try:
            demanded = Expression(expression).thresholds()
        except PlanError:  # a plugin's expression, in a language of its own
            return ()
        return [Threshold(stage, one.column, one.operator, one.value) for one in demanded]
    if isinstance(column, str) and operator in ("<", "<=", ">", ">=") and _is_number(value):
        return [Threshold(stage, column, str(operator), float(value or 0.0))]
    bounds = (("min_s", ">="), ("max_s", "<="))
    return [Threshold(stage, DURATION, sign, float(own[name])) for name, sign in bounds if _is_number(own.get(name))]


def _comparison(stage: str, own: Mapping[str, Any]) -> Comparison | None:
    for key, unit in (("wer_key", "word"), ("cer_key", "character")):
        names = [own.get(name) for name in (key, "text_key", "pred_text_key")]
        if all(isinstance(name, str) for name in names):
            column, reference, hypothesis = map(str, names)
            return Comparison(stage, column, reference, hypothesis, str(own.get("normaliser", "none")), unit)
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
