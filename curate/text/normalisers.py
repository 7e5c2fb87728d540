"""Normalisers: what makes two spellings of the same words equal before errors are counted."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from curate.errors import PlanError, RecordError

Normaliser: TypeAlias = Callable[[str], str]

NORMALISERS: Mapping[str, str] = MappingProxyType(
    {
        "whisper-english": "Whisper's English rules: spelling, contractions, fillers, and spoken numbers to digits",
        "whisper-basic": "Whisper's rules for any language: lower case, no punctuation, no bracketed text",
        "none": "the text as it is",
    }
)
"""What `normaliser` knows: name → what it does, in one line."""


@functools.cache
def normaliser(name: str) -> Normaliser:
    """The normaliser of that name, built once per process, because Whisper's English tables are slow to load.

    `whisper-english` and `whisper-basic` are OpenAI's text standardisation (Radford et al. 2022, appendix C), with
    blanks at the ends taken off. Three of their rules are worth knowing before choosing one:

    - `whisper-english` writes neighbouring spoken digits as **one** word: "one two three" → "123", "oh nine" → "09",
      "two twenty" → "220", "double seven" → "77"; a lone "1" becomes "one". The word error rate of a digit string is
      then 0 or 1 and nothing between. For spoken digits use `whisper-basic`, which leaves the words alone.
    - `whisper-basic` cuts contractions ("I'll" → "i ll") and replaces combining marks by blanks, which takes the
      vowels out of many Indic scripts.
    - Both search for the end of every `(`, `[` and `<`, so a text of n brackets that never close takes time in n²
      (16,000: 1 s). A stage's `timeout_s` ends that.

    Raises:
        PlanError: there is no normaliser of that name; the message names the nearest.
        RecordError: `bad_value`, from the returned function, for a text that Whisper's rules fail on (a number of more
            than 4300 digits).
    """
    match name:
        case "whisper-english":
            from whisper_normalizer.english import EnglishTextNormalizer  # pyright: ignore[reportMissingTypeStubs]

            return _strict(name, EnglishTextNormalizer())
        case "whisper-basic":
            from whisper_normalizer.basic import BasicTextNormalizer  # pyright: ignore[reportMissingTypeStubs]

            return _strict(name, BasicTextNormalizer())
        case "none":
            return _unchanged
        case _:
            near = difflib.get_close_matches(name, NORMALISERS, n=2, cutoff=0.5)
            advice = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known are {', '.join(NORMALISERS)}"
            raise PlanError(f"unknown normaliser {name!r}: {advice}")


def _strict(name: str, rules: Callable[[str], Any]) -> Normaliser:
    def normalise(text: str) -> str:
        try:
            return str(rules(text)).strip()
        except (AssertionError, ValueError) as error:  # what the number parser raises, mostly without a message
            raise RecordError("bad_value", f"normaliser {name!r} fails on {text[:60]!r}: {error!r}") from error

    return normalise


def _unchanged(text: str) -> str:
    return text
