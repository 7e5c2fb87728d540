"""Whisper's English rules, with preparation in front that keeps them from changing what a word is.

Left alone, Whisper's rules write neighbouring spoken digits as one word ("one two three" → "123"), read every `'s` as
"is", take speech in round brackets for noise, drop the signs of other scripts, and raise for very long numbers.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable
from typing import Any, Final

from curate.errors import RecordError
from curate.text.composing import compose
from curate.text.noise import drop_noise_tags
from curate.text.script_rules import apply_script_rules, usual_spelling
from curate.text.scripts import script_of

_DIGITS: Final = frozenset(["zero", "oh", "o", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
_REPEATS: Final = {"double": 2, "triple": 3}
_FRACTION_OF: Final = frozenset({"point"})
_SUBJECTS: Final = (
    "he she it that this there here what where who how when why let everything something nothing everyone someone"
)
_IS: Final = frozenset(_SUBJECTS.split())
_CONTRACTIONS: Final = (
    "don't can't didn't doesn't isn't wasn't weren't aren't hasn't haven't hadn't wouldn't couldn't shouldn't "
    "mustn't i'm i've you're you've they're they've we've that's what's there's"
)
_WITHOUT_APOSTROPHE: Final = {word.replace("'", ""): word for word in _CONTRACTIONS.split()}
_SEPARATOR: Final = "\U0010fffd"  # a private character: a word that Whisper's rules know nothing of
_FIRST_PROTECTED: Final = 0xF0000
_MOST_PROTECTED: Final = 0xFFFD
_LONGEST_NUMBER: Final = 15
_POSSESSIVE: Final = re.compile(r"\b([a-z]+)'s\b")
_CORE: Final = re.compile(r"\w(?:.*\w)?", re.DOTALL)  # `\W+$` takes quadratic time on a megabyte of dashes
_APOSTROPHES: Final = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bb\u02bc\uff07\u2032\u00b4\u0060", "'"))
_FORMAT_CHARACTERS: Final = {
    0x200B: " ",
    **dict.fromkeys((*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF)),
}
_MODIFIER_APOSTROPHE: Final = "\u02bc"  # a letter by Unicode, so Whisper's rules keep it

Rules = Callable[[str], Any]


def apply_english_rules(text: str) -> str:
    """Return a transcript by Whisper's rules for English: numbers, spellings, contractions and fillers.

    Raises:
        RecordError: `bad_value`, if the rules fail on the text, or it has more than 65,533 different words of other
            scripts.
    """
    text = usual_spelling(text).translate(_APOSTROPHES).translate(_FORMAT_CHARACTERS)
    # Whisper's own search for brackets takes quadratic time; it finds none, so round ones hold speech only.
    text = re.sub(r"[\[\]<>(){}*]", " ", drop_noise_tags(text)).lower()
    text = _POSSESSIVE.sub(_kept_possessive, text)
    protected: dict[str, int] = {}
    prepared = " ".join(_separate_digits([_prepare(word, protected) for word in text.split()]))
    try:
        result = str(whisper_rules()(prepared))
    except (
        AssertionError,
        ValueError,
        TypeError,
        IndexError,
    ) as error:  # of the number parser, mostly without a message
        raise RecordError("bad_value", f"normaliser 'whisper-english' fails on {text[:60]!r}: {error!r}") from error
    foreign = list(protected)
    result = "".join(_restored(character, foreign) for character in result)
    words = (word for word in result.split() if word.strip(".$¢€£%"))  # Whisper leaves a sign at the end alone
    return compose(" ".join(words))


def match_digit_groups(reference: str, hypothesis: str) -> tuple[str, str]:
    """Return two normalised texts with a number of one divided into digits where the other has its digits one by one.

    "five five five one two three four" is then equal to 5551234, and a wrong digit is one error. A number of three or
    more digits is also divided if the other text holds as many single digits in a row, and not the number itself.
    """
    expected, recognised = reference.split(), hypothesis.split()
    return _divided(expected, recognised), _divided(recognised, expected)


def _divided(words: list[str], others: list[str]) -> str:
    digits = "".join("1" if word == "one" else word if len(word) == 1 and word.isdigit() else " " for word in others)
    runs = [run for run in digits.split() if len(run) > 1]
    if not runs:
        return " ".join(words)
    longest = max(map(len, runs))
    whole = set(others)
    divided: list[str] = []
    for word in words:
        if len(word) > 1 and word.isdigit() and word not in whole:
            found = any(word in run for run in runs)
            if found or 3 <= len(word) <= longest:
                divided += ("one" if digit == "1" else digit for digit in word)
                continue
        divided.append(word)
    return " ".join(divided)


@functools.cache
def whisper_rules() -> Rules:
    """Return Whisper's rules as they are; the first call of a process loads the tables."""
    from whisper_normalizer.english import EnglishTextNormalizer  # pyright: ignore[reportMissingTypeStubs]

    return EnglishTextNormalizer()


def _kept_possessive(match: re.Match[str]) -> str:
    return match[0] if match[1] in _IS else f"{match[1]}{_MODIFIER_APOSTROPHE}s"


def _prepare(word: str, protected: dict[str, int]) -> str:
    bare = _core_of(word)
    if bare in _WITHOUT_APOSTROPHE:
        return word.replace(bare, _WITHOUT_APOSTROPHE[bare])
    if not _is_foreign(word) and sum(map(str.isdigit, word)) <= _LONGEST_NUMBER:
        return word
    place = protected.setdefault(word, len(protected))
    if place > _MOST_PROTECTED - 1:
        raise RecordError("bad_value", "the text has more than 65,533 different words that are not English")
    return f" {chr(_FIRST_PROTECTED + place)} "


def _core_of(word: str) -> str:
    """Return a word without the punctuation at its ends."""
    match = _CORE.search(word)
    return "" if match is None else match[0]


def _is_foreign(word: str) -> bool:
    return not word.isascii() and any(map(_is_foreign_character, word))


@functools.lru_cache(maxsize=65_536)
def _is_foreign_character(character: str) -> bool:
    if character.isascii():
        return False
    category = unicodedata.category(character)
    if category in ("Nl", "No", "Nd", "Mc", "Co"):
        return True
    return script_of(character) != "Latn" and category[0] in "LC"


def _restored(character: str, words: list[str]) -> str:
    if character == _SEPARATOR:
        return " "
    if character == _MODIFIER_APOSTROPHE:
        return "'"
    place = ord(character) - _FIRST_PROTECTED
    return f" {apply_script_rules(words[place], 'en')} " if 0 <= place < len(words) else character


def _separate_digits(words: list[str]) -> list[str]:
    """Return the words with a separator between spoken digits, except behind a decimal point: "three point one four".

    "double seven" becomes "seven seven", with the separator between.
    """
    separated: list[str] = []
    after_digit = after_point = False
    for position, word in enumerate(words):
        bare = _core_of(word)
        following = _core_of(words[position + 1]) if position + 1 < len(words) else ""
        times = _REPEATS.get(bare, 0) if following in _DIGITS else 0
        if bare in _DIGITS or times:
            if after_digit and not after_point:
                separated.append(_SEPARATOR)
            after_digit = True
            if times:
                separated += [following, _SEPARATOR] * (times - 1)
                after_digit = False  # the separator is there
                continue
        else:
            after_digit, after_point = False, bare in _FRACTION_OF
        separated.append(word)
    return separated
