"""Normalisers: functions that make two spellings of the same words equal before errors are counted."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from curate.errors import PlanError, RecordError
from curate.suggest import closest

Normaliser: TypeAlias = Callable[[str], str]

NORMALISERS: Mapping[str, str] = MappingProxyType(
    {
        "whisper-english": "Whisper's English rules: spelling, contractions, fillers, and spoken numbers to digits",
        "whisper-basic": "Whisper's rules for any language: lower case, no punctuation, no bracketed text",
        "none": "the text as it is",
    }
)
"""curate's own normalisers: name → what it does, in one line."""


def normaliser(name: str) -> Normaliser:
    """Return one of curate's own normalisers; those of plugins are found by a pipeline that names them.

    Raises:
        PlanError: there is no normaliser of that name; the message names the nearest.
    """
    if name in _OWN:
        return _OWN[name]
    raise PlanError(f"unknown normaliser {name!r}: {closest(name, NORMALISERS)}")


def whisper_english(text: str) -> str:
    """Apply OpenAI's English text standardisation (Radford et al. 2022, appendix C), and strip blanks at the ends.

    It writes neighbouring spoken digits as **one** word: "one two three" → "123", "oh nine" → "09", "two twenty" →
    "220", "double seven" → "77"; a lone "1" becomes "one". The word error rate of a digit string is then 0 or 1 and
    nothing between. For spoken digits use `whisper_basic`, which leaves the words alone.

    Both search for the end of every `(`, `[` and `<`, so n brackets that never close take time in n²
    (16,000: 1 s). A stage's `timeout_s` ends that. The first call of a process loads the tables.

    Raises:
        RecordError: `bad_value`, if the rules fail on the text (a number of more than 4300 digits).
    """
    return _applied("whisper-english", _english(), text)


def whisper_basic(text: str) -> str:
    """Apply OpenAI's text standardisation for any language, and strip blanks at the ends.

    It cuts contractions ("I'll" → "i ll") and replaces combining marks by blanks, which takes the vowels out of many
    Indic scripts.

    Raises:
        RecordError: `bad_value`, if the rules fail on the text.
    """
    return _applied("whisper-basic", _basic(), text)


def unchanged(text: str) -> str:
    """Return the text as it is."""
    return text


_OWN: Mapping[str, Normaliser] = {
    "whisper-english": whisper_english,
    "whisper-basic": whisper_basic,
    "none": unchanged,
}


@functools.cache
def _english() -> Callable[[str], Any]:
    from whisper_normalizer.english import EnglishTextNormalizer  # pyright: ignore[reportMissingTypeStubs]

    return EnglishTextNormalizer()


@functools.cache
def _basic() -> Callable[[str], Any]:
    from whisper_normalizer.basic import BasicTextNormalizer  # pyright: ignore[reportMissingTypeStubs]

    return BasicTextNormalizer()


def _applied(name: str, rules: Callable[[str], Any], text: str) -> str:
    try:
        return str(rules(text)).strip()
    except (AssertionError, ValueError) as error:  # of the number parser, mostly without a message
        raise RecordError("bad_value", f"normaliser {name!r} fails on {text[:60]!r}: {error!r}") from error
