"""Scores of hallucinations: text that a recogniser wrote where there was no such speech."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Sequence

import attrs

from curate.text.hallucination_phrases import compact, phrases_of
from curate.text.script_rules import apply_script_rules
from curate.text.scripts import UNSPACED_SCRIPTS, is_unspaced, main_script, word_units

FEWEST_UNITS = 6
"""Repetition is scored from this many words on; from twice as many in scripts that are counted by character."""

_LONGEST_NGRAM = 5
_LONGEST_PERIOD = 30
_FEWEST_REPEATS = 3
_WINDOW = 500
"""Compression is the largest of windows of this many characters: long texts compress better without repeating."""

_RATES = {"Hani": (0.2, 14.0), "Hira": (0.3, 20.0), "Kana": (0.3, 20.0), "Hang": (0.3, 16.0)}
_RATE = (0.5, 35.0)


@attrs.frozen
class HallucinationScores:
    """The scores of one text; None where there is nothing to compute a score from.

    Args:
        ngram_share: the largest share of the words that repetitions of one n-gram (n = 1…5) take up, in texts of at
            least six words; only n-grams that occur at least three times, without overlap.
        single_share: the same for n = 1 alone.
        cycle: the words in the longest stretch that repeats one period at least three times.
        compression: UTF-8 bytes / their zlib-compressed size.
        chars_per_s: letters, digits and marks per second.
        phrase: the whole text is one phrase of the table of its language, or repeats one.
        units: the words of the text; characters in scripts that separate words by no blank.
    """

    ngram_share: float
    single_share: float
    cycle: int
    compression: float
    chars_per_s: float | None
    phrase: bool
    units: int
    script: str | None
    unspaced: bool


def score_hallucination(text: str, lang: str | None = None, seconds: float | None = None) -> HallucinationScores:
    """Return the scores of a transcript.

    Args:
        lang: the code of the language, as `language_code` returns it.
        seconds: how long the speech is, or the audio where that is not known.
    """
    normalised = apply_script_rules(text, lang)
    units = word_units(normalised)
    unspaced = is_unspaced(normalised)
    shares = [0.0] * _LONGEST_NGRAM
    if len(units) >= FEWEST_UNITS * (2 if unspaced else 1):
        shares = [_share(units, size) for size in range(1, _LONGEST_NGRAM + 1)]
    characters = len(compact(normalised))
    return HallucinationScores(
        ngram_share=max(shares),
        single_share=shares[0],
        cycle=_longest_cycle(units),
        compression=_compression(text),
        chars_per_s=characters / seconds if seconds is not None and seconds > 0 else None,
        phrase=_is_phrase(compact(normalised), lang),
        units=len(units),
        script=main_script(normalised),
        unspaced=unspaced,
    )


def rate_limits(script: str | None) -> tuple[float, float]:
    """Return the fewest and the most characters per second that people speak in a script, with a wide margin."""
    if script is None:
        return _RATE
    return _RATES.get(script, (0.4, 28.0) if script in UNSPACED_SCRIPTS else _RATE)


def _share(units: Sequence[Hashable], size: int) -> float:
    counts: dict[tuple[Hashable, ...], int] = {}
    ends: dict[tuple[Hashable, ...], int] = {}
    for start in range(len(units) - size + 1):
        ngram = tuple(units[start : start + size])
        if ends.get(ngram, 0) <= start:
            counts[ngram] = counts.get(ngram, 0) + 1
            ends[ngram] = start + size
    most = max(counts.values(), default=0)
    return most * size / len(units) if most >= _FEWEST_REPEATS else 0.0


def _longest_cycle(units: Sequence[Hashable]) -> int:
    longest = 0
    for period in range(1, min(_LONGEST_PERIOD, len(units) // _FEWEST_REPEATS) + 1):
        matches = 0
        for place in range(period, len(units)):
            matches = matches + 1 if units[place] == units[place - period] else 0
            if matches >= period * (_FEWEST_REPEATS - 1):
                longest = max(longest, matches + period)
    return longest


def _compression(text: str) -> float:
    windows = [text[start : start + _WINDOW] for start in range(0, max(len(text), 1), _WINDOW)]
    return max(_ratio(window.encode("utf-8", "surrogatepass")) for window in windows)


def _ratio(data: bytes) -> float:
    return len(data) / len(zlib.compress(data))


def _is_phrase(text: str, lang: str | None) -> bool:
    if not text:
        return False
    phrases = phrases_of(lang)
    if text in phrases:
        return True
    # A repeated phrase begins with itself, and ends where it begins again.
    period = (text + text).find(text, 1)
    return period < len(text) and text[:period] in phrases
