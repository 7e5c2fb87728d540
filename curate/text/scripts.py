"""Scripts: which characters are letters of which writing system, and where a script separates its words by no blank."""

from __future__ import annotations

import bisect
import functools
import re
import unicodedata
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["word", "character", "auto"]

UNSPACED_LANGUAGES = frozenset({"zh", "yue", "wuu", "nan", "hak", "gan", "lzh", "ja", "th", "lo", "km", "my"})
"""Languages that separate words by no blank: their errors are counted by character, and blanks are not counted."""

# (first, last, ISO 15924), ascending. A character of no range belongs to no script here: digits, punctuation, blanks.
_RANGES: tuple[tuple[int, int, str], ...] = (
    (0x0041, 0x005A, "Latn"),
    (0x0061, 0x007A, "Latn"),
    (0x00AA, 0x00AA, "Latn"),
    (0x00BA, 0x00BA, "Latn"),
    (0x00C0, 0x00D6, "Latn"),
    (0x00D8, 0x00F6, "Latn"),
    (0x00F8, 0x02AF, "Latn"),
    (0x0370, 0x03FF, "Grek"),
    (0x0400, 0x052F, "Cyrl"),
    (0x0531, 0x058F, "Armn"),
    (0x0591, 0x05FF, "Hebr"),
    (0x0600, 0x06FF, "Arab"),
    (0x0700, 0x074F, "Syrc"),
    (0x0750, 0x077F, "Arab"),
    (0x0780, 0x07BF, "Thaa"),
    (0x07C0, 0x07FF, "Nkoo"),
    (0x0860, 0x08FF, "Arab"),
    (0x0900, 0x097F, "Deva"),
    (0x0980, 0x09FF, "Beng"),
    (0x0A00, 0x0A7F, "Guru"),
    (0x0A80, 0x0AFF, "Gujr"),
    (0x0B00, 0x0B7F, "Orya"),
    (0x0B80, 0x0BFF, "Taml"),
    (0x0C00, 0x0C7F, "Telu"),
    (0x0C80, 0x0CFF, "Knda"),
    (0x0D00, 0x0D7F, "Mlym"),
    (0x0D80, 0x0DFF, "Sinh"),
    (0x0E01, 0x0E3A, "Thai"),
    (0x0E40, 0x0E5B, "Thai"),
    (0x0E80, 0x0EFF, "Laoo"),
    (0x0F00, 0x0FFF, "Tibt"),
    (0x1000, 0x109F, "Mymr"),
    (0x10A0, 0x10FF, "Geor"),
    (0x1100, 0x11FF, "Hang"),
    (0x1200, 0x139F, "Ethi"),
    (0x13A0, 0x13FF, "Cher"),
    (0x1400, 0x167F, "Cans"),
    (0x1780, 0x17FF, "Khmr"),
    (0x1800, 0x18AF, "Mong"),
    (0x1C90, 0x1CBF, "Geor"),
    (0x1D00, 0x1DBF, "Latn"),
    (0x1E00, 0x1EFF, "Latn"),
    (0x1F00, 0x1FFF, "Grek"),
    (0x2C60, 0x2C7F, "Latn"),
    (0x2D30, 0x2D7F, "Tfng"),
    (0x2D80, 0x2DDF, "Ethi"),
    (0x2E80, 0x2FDF, "Hani"),
    (0x3005, 0x3007, "Hani"),
    (0x3021, 0x3029, "Hani"),
    (0x3041, 0x309F, "Hira"),
    (0x30A1, 0x30FF, "Kana"),
    (0x3105, 0x312F, "Bopo"),
    (0x3131, 0x318E, "Hang"),
    (0x31A0, 0x31BF, "Bopo"),
    (0x31F0, 0x31FF, "Kana"),
    (0x3400, 0x4DBF, "Hani"),
    (0x4E00, 0x9FFF, "Hani"),
    (0xA640, 0xA69F, "Cyrl"),
    (0xA720, 0xA7FF, "Latn"),
    (0xA9E0, 0xA9FF, "Mymr"),
    (0xAA60, 0xAA7F, "Mymr"),
    (0xAC00, 0xD7FF, "Hang"),
    (0xF900, 0xFAFF, "Hani"),
    (0xFB00, 0xFB06, "Latn"),
    (0xFB13, 0xFB17, "Armn"),
    (0xFB1D, 0xFB4F, "Hebr"),
    (0xFB50, 0xFDFF, "Arab"),
    (0xFE70, 0xFEFC, "Arab"),
    (0xFF21, 0xFF3A, "Latn"),
    (0xFF41, 0xFF5A, "Latn"),
    (0xFF66, 0xFF9F, "Kana"),
    (0xFFA0, 0xFFDC, "Hang"),
    (0x1AFF0, 0x1B16F, "Kana"),
    (0x1E900, 0x1E95F, "Adlm"),
    (0x20000, 0x323AF, "Hani"),
)
_STARTS = [first for first, _, _ in _RANGES]

UNSPACED_SCRIPTS = frozenset({"Hani", "Hira", "Kana", "Bopo", "Thai", "Laoo", "Khmr", "Mymr"})
"""Scripts that separate words by no blank."""

_UNSPACED = re.compile(
    "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last, name in _RANGES if name in UNSPACED_SCRIPTS) + "]"
)
_UNSPACED_OR_WORD = re.compile(rf"{_UNSPACED.pattern}|(?:(?!{_UNSPACED.pattern})\S)+")
_BLANKS_OF_UNSPACED = re.compile(rf"(?<={_UNSPACED.pattern}) +| +(?={_UNSPACED.pattern})")


@functools.lru_cache(maxsize=65_536)
def script_of(character: str) -> str | None:
    """Return the script of one character, in ISO 15924 (`Latn`); None for one that many scripts share, or another."""
    code = ord(character)
    place = bisect.bisect_right(_STARTS, code) - 1
    if place < 0:
        return None
    _, last, name = _RANGES[place]
    return name if code <= last else None


def main_script(text: str) -> str | None:
    """Return the script of most letters of a string; None if there are no letters of a known script."""
    counts: dict[str, int] = {}
    for character in text:
        name = script_of(character)
        if name is not None and unicodedata.category(character)[0] in "LM":
            counts[name] = counts.get(name, 0) + 1
    return max(counts, key=counts.__getitem__) if counts else None


def is_unspaced(text: str) -> bool:
    """Return whether most letters of a string belong to scripts that separate words by no blank."""
    letters = sum(character.isalpha() for character in text)
    return letters > 0 and 2 * len(_UNSPACED.findall(text)) > letters


def word_units(text: str, level: Level = "auto") -> list[str]:
    """Return the units of a normalised text in which word errors are counted.

    Args:
        level: `word`: what blanks separate. `character`: the characters without blanks. `auto`: each character of a
            script that separates words by no blank, and the words of all other scripts: 我爱 machine learning is four.
    """
    if level == "word":
        return text.split()
    if level == "character":
        return [character for character in text if not character.isspace()]
    return _UNSPACED_OR_WORD.findall(text)


def character_units(text: str, lang: str | None = None) -> str:
    """Return the characters of a normalised text in which character errors are counted.

    A run of blanks is one character. In a language of `UNSPACED_LANGUAGES` blanks are not counted, nor are those next
    to a character of such a script where the language is unknown.

    Args:
        lang: the code of the language, as `language_code` returns it.
    """
    words = text.split()
    if lang in UNSPACED_LANGUAGES:
        return "".join(words)
    return _BLANKS_OF_UNSPACED.sub("", " ".join(words))
