"""Advice for a column that a stage reads and no earlier stage writes: a string without quotes, or another name."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from curate.stage import Stage
from curate.suggest import nearest

_OTHER_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "text": ("sentence", "transcript", "transcription", "normalized_text", "raw_text", "utterance", "label"),
        "pred_text": ("prediction", "hypothesis", "pred", "asr_text", "text"),
        "audio_filepath": ("path", "audio", "file", "filename", "audio_path", "wav", "wav_path", "file_name"),
        "duration": ("length", "seconds", "audio_duration", "dur"),
        "lang": ("language", "locale", "lang_id"),
        "speaker": ("speaker_id", "client_id", "spk", "spk_id"),
    }
)
"""Column → the names that corpora and other tools give it."""


WRITERS: Mapping[str, str] = MappingProxyType(
    {
        "bandwidth_hz": "bandwidth",
        "cer": "character_error_rate",
        "chars_per_s": "text_rates",
        "clipped_ratio": "audio_levels",
        "duration": "audio_duration",
        "pred_text": "asr",
        "snr_db": "snr",
        "wer": "word_error_rate",
        "words_per_s": "text_rates",
    }
)
"""Column that filters often compare → the stage that writes it."""

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_BEFORE, _BEHIND = 70, 40
"""The most characters of an expression that are shown around a place in it."""


def missing_column_advice(stage: Stage, column: str, columns: Collection[str]) -> str:
    """Return the column to write instead, as a clause; "" if nothing is likely.

    Args:
        stage: the stage that reads the column.
        column: the column that no earlier stage writes.
        columns: those that there are.
    """
    expression: Any = getattr(stage, "expression", None)
    if isinstance(expression, str) and _is_unquoted(column, expression):
        return f"if {column} is a string, quote it: '{column}'"
    if column in WRITERS and column not in _OTHER_NAMES:
        return f"the stage {WRITERS[column]} writes it"
    other = next((name for name in _OTHER_NAMES.get(column, ()) if name in columns), None)
    near = other or nearest(column, columns)
    if near is None:
        return f"the stage {WRITERS[column]} writes it" if column in WRITERS else ""
    option = _option_with(stage, column)
    return f"write {option}: {near}" if option is not None else f"did you mean {near!r}?"


def column_excerpt(stage: Stage, column: str) -> str:
    """Return two further lines of a message: the line of the stage's expression that has the column, and a caret."""
    expression: Any = getattr(stage, "expression", None)
    if not isinstance(expression, str):
        return ""
    for line in map(str.strip, expression.splitlines()):
        unquoted = _QUOTED.sub(lambda match: " " * len(match[0]), line)
        found = re.search(rf"(?<![\w.]){re.escape(column)}\b", unquoted)
        if found is not None:
            start = max(found.start() - _BEFORE, 0)
            return f"\n    {line[start : found.start() + _BEHIND]}\n    {' ' * (found.start() - start)}^"
    return ""


def _is_unquoted(column: str, expression: str) -> bool:
    """Return whether a column is what others are compared with for equality: `lang == en`, `lang in [de, en]`."""
    name = rf"{re.escape(column)}\b(?!\s*[.(])"
    return bool(
        re.search(rf"[!=]=\s*{name}", expression)
        or re.search(rf"\bin\s*[\[(][^\])]*\b{name}", expression)
        or re.search(rf"(?<![\w.]){name}\s*[!=]=\s*\w", expression)
    )


def _option_with(stage: Stage, column: str) -> str | None:
    """Return the name of the option that names a column, such as `text_key`."""
    if not dataclasses.is_dataclass(stage):
        return None
    names = (field.name for field in dataclasses.fields(stage) if field.name.endswith("_key"))
    return next((name for name in names if getattr(stage, name, None) == column), None)
