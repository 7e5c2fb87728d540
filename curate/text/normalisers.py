"""Normalisers: functions that give two spellings of the same words one form before errors are counted.

A normaliser takes a string and returns a string. One that takes a second argument called `lang` also gets the code of
the record's language, as `curate.text.language_code` returns it, or None where it is unknown.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from curate.errors import PlanError, RecordError
from curate.suggest import closest
from curate.text.english import apply_english_rules
from curate.text.script_rules import apply_script_rules

Normaliser: TypeAlias = Callable[..., str]

NORMALISERS: Mapping[str, str] = MappingProxyType(
    {
        "auto": "the rules of the record's language; those of its script where the language is unknown",
        "script": "case, punctuation, widths and noise tags of any script; words are left as they are",
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


def takes_language(normalise: Normaliser) -> bool:
    """Return whether a normaliser has an argument called `lang`."""
    return takes_argument(normalise, "lang")


def takes_argument(function: Normaliser, name: str) -> bool:
    """Return whether a function has an argument of that name."""
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):  # a function of C has no signature
        return False


def auto(text: str, lang: str | None = None) -> str:
    """Apply the rules of a language: those of `whisper_english` for English, else those of the script.

    Without a language no rules of English apply, on whatever Latin text.

    Args:
        lang: the code of the language, as `language_code` returns it.
    """
    return apply_english_rules(text) if lang == "en" else apply_script_rules(text, lang)


def script(text: str, lang: str | None = None) -> str:
    """Apply the rules of the script; see `apply_script_rules`."""
    return apply_script_rules(text, lang)


def whisper_english(text: str) -> str:
    """Apply OpenAI's English text standardisation (Radford et al. 2022, appendix C), prepared by `curate.text.english`.

    Spoken digits stay words: "one two three" → "one 2 3"; years and amounts become one: "nineteen ninety
    five" → "1995".

    Raises:
        RecordError: `bad_value`, if the rules fail on the text.
    """
    return apply_english_rules(text)


def whisper_basic(text: str) -> str:
    """Apply OpenAI's text standardisation for any language, and strip blanks at the ends.

    It cuts contractions ("I'll" → "i ll") and replaces combining marks by blanks, which takes the vowels out of many
    Indic scripts.

    Raises:
        RecordError: `bad_value`, if the rules fail on the text.
    """
    return _applied("whisper-basic", _basic(), _without_brackets(text.lower()))


_BRACKETS = (re.compile(r"[<\[][^>\]]*[>\]]"), ">]", str.maketrans("<[", "  "))
_PARENTHESES = (re.compile(r"\([^)]+\)"), ")", str.maketrans("(", " "))


def _without_brackets(text: str) -> str:
    """Return a string without what is in brackets, as Whisper's rules leave it.

    Their own search takes quadratic time where a bracket is never closed; it finds nothing here.
    """
    for pattern, closing, blanks in (_BRACKETS, _PARENTHESES):
        end = max(map(text.rfind, closing)) + 1
        text = pattern.sub("", text[:end]) + text[end:].translate(blanks)
    return text


def unchanged(text: str) -> str:
    """Return the text as it is."""
    return text


_OWN: Mapping[str, Normaliser] = {
    "auto": auto,
    "script": script,
    "whisper-english": whisper_english,
    "whisper-basic": whisper_basic,
    "none": unchanged,
}


@functools.cache
def _basic() -> Callable[[str], Any]:
    from whisper_normalizer.basic import BasicTextNormalizer  # pyright: ignore[reportMissingTypeStubs]

    return BasicTextNormalizer()


def _applied(name: str, rules: Callable[[str], Any], text: str) -> str:
    try:
        return str(rules(text)).strip()
    except (AssertionError, ValueError) as error:  # of the number parser, mostly without a message
        raise RecordError("bad_value", f"normaliser {name!r} fails on {text[:60]!r}: {error!r}") from error


def matches_digit_groups(normalise: Normaliser) -> bool:
    """Return whether a normaliser leaves spoken digits one by one, to be matched with the number of the other text."""
    return normalise in (auto, whisper_english)
