"""The normaliser that knows scripts and no words: two spellings of a word become equal, two words never do.

Lower case, no punctuation, no symbols; what belongs to a word stays: the vowel signs of Indic scripts, tones, accents,
apostrophes inside words. Rules of one language (the i of Turkish, vowel points of Yiddish) apply where it is known.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from curate.text.composing import compose
from curate.text.noise import drop_noise_tags

_APOSTROPHES: Final = "'\u2018\u2019\u201b\u02bb\u02bc\u02b9\uff07\u2032\u00b4\u0060\u055a\ua78c"
_LETTER_APOSTROPHES: Final = "\u02bb\u02bc\ua78c"  # letters by Unicode: they count at the ends of a word as well
_KEPT: Final = frozenset("%$¢£¥€₩₹₽₺₪₫₦₴₱৳฿¤")  # read aloud as a word, so each is one

# Vowel points and signs of recitation, which writers leave out at will; hamza and madda above are parts of letters.
_ARABIC_POINTS: Final = (
    *range(0x0610, 0x061B),
    0x0640,
    *range(0x064B, 0x0653),
    *range(0x0656, 0x0659),
    0x0670,
    *range(0x06D6, 0x06DD),
    *range(0x06DF, 0x06E5),
    *range(0x06E7, 0x06E9),
    *range(0x06EA, 0x06EE),
    *range(0x08D3, 0x08E2),
    *range(0x08E3, 0x0900),
)
_HEBREW_POINTS: Final = (*range(0x0591, 0x05BE), 0x05BF, 0x05C1, 0x05C2, 0x05C4, 0x05C5, 0x05C7)

# Armenian marks of intonation stand inside the word, on its vowel.
_DROPPED: Final = (
    *_ARABIC_POINTS,
    0x00AD,
    0x034F,
    0x055B,
    0x055C,
    0x055E,
    *range(0xFE00, 0xFE10),
    0x180B,
    0x180C,
    0x180D,
)
_BLANKS: Final = (0x200B, 0x2028, 0x2029, 0x202F)
_SAFE_TAGS: Final = frozenset(
    {"<wide>", "<narrow>", "<font>", "<initial>", "<medial>", "<final>", "<isolated>", "<vertical>", "<noBreak>"}
)

# Sequences that are one letter in two spellings. ZWJ and ZWNJ are dropped after these have been found.
_SPELLINGS: Final = (
    *((f"{letter}\u0d4d\u200d", chillu) for letter, chillu in zip("ണനരലളക", "ൺൻർൽൾൿ", strict=True)),
    ("\u09a4\u09cd\u200d", "\u09ce"),  # Bengali khanda ta
)
_SARA_AM: Final = (
    (re.compile("\u0e4d([\u0e48-\u0e4b]?)\u0e32"), "\\1\u0e33"),
    (re.compile("([\u0e48-\u0e4b])\u0e4d\u0e32"), "\\1\u0e33"),
    (re.compile("\u0ecd([\u0ec8-\u0ecb]?)\u0eb2"), "\\1\u0eb3"),
    (re.compile("([\u0ec8-\u0ecb])\u0ecd\u0eb2"), "\\1\u0eb3"),
)

_DECIMAL_COMMA: Final = (
    "az be bg bs ca cs da de el es et eu fi fr gl hr hu hy id is it ka kk ky lt lv mk mn nl no pl pt ro ru sk sl sq sr "
    "sv tr uk uz vi"
)
DECIMAL_COMMA: Final = frozenset(_DECIMAL_COMMA.split())
"""Languages that write 1.000,5: a full stop divides thousands."""

_THOUSANDS_COMMA: Final = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_THOUSANDS_STOP: Final = re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3})+(?![\d.])")
_INNER_APOSTROPHE: Final = re.compile(rf"(?<=[^\W_])[{re.escape(_APOSTROPHES)}](?=[^\W_])")
_GERSHAYIM: Final = re.compile('(?<=[\u05d0-\u05ea])["\u05f4\u201d](?=[\u05d0-\u05ea])')
_GERESH: Final = re.compile(rf"(?<=[\u05d0-\u05ea])[\u05f3{re.escape(_APOSTROPHES)}]")
_DECIMAL: Final = re.compile(r"(?<=\d)[.,\u066b](?=\d)")
_CATALAN_DOT: Final = re.compile("(?<=[lL])[\u00b7\u2027\u2219](?=[lL])")

# Placeholders for signs that are punctuation elsewhere: noncharacters, which no string may hold.
_APOSTROPHE, _STOP, _COMMA, _DOT, _QUOTE = "\ufdd0", "\ufdd1", "\ufdd2", "\ufdd3", "\ufdd4"
_PLACEHOLDERS: Final = {
    ord(_APOSTROPHE): "'",
    ord(_STOP): ".",
    ord(_COMMA): ",",
    ord(_DOT): "\u00b7",
    ord(_QUOTE): "\u05f4",
}


class _Table(dict[int, str]):
    """A table for `str.translate` that is filled as characters occur: code point → its replacement."""

    def __missing__(self, code: int) -> str:
        self[code] = replacement = _replacement(chr(code))
        return replacement


def _replacement(character: str) -> str:
    code = ord(character)
    if code in _PLACEHOLDERS or character in _KEPT:
        return character if code in _PLACEHOLDERS else f" {character} "
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if character in _LETTER_APOSTROPHES:
        return _APOSTROPHE
    if category[0] in "PSZ" or category == "Cc" or code in _BLANKS:
        return " "
    return "" if category == "Cf" else character


def _spelled(character: str) -> str:
    """Return the usual spelling of a compatibility character, such as a full-width letter or a ligature."""
    tag, *parts = unicodedata.decomposition(character).split()[:2] or ("",)
    if tag in _SAFE_TAGS:
        return unicodedata.normalize("NFKC", character)
    # Superscripts and fractions mean something else than their digits. Of the rest, spacing accents begin with a
    # blank; sara am and Hangul letters are the usual spelling themselves.
    if tag != "<compat>" or parts[0] == "0020" or character in "\u0e33\u0eb3" or "\u3131" <= character <= "\u318e":
        return character
    return unicodedata.normalize("NFKC", character)


class _Spellings(dict[int, str]):
    def __missing__(self, code: int) -> str:
        self[code] = spelled = "" if code in _DROPPED else _spelled(chr(code))
        return spelled


_TABLE = _Table()
_COMPATIBLE = _Spellings()
_HEBREW_TABLE: Final = dict.fromkeys(_HEBREW_POINTS, "")
_DOTLESS: Final = {ord("I"): "ı", ord("İ"): "i"}


def usual_spelling(text: str) -> str:
    """Return a string in Unicode's composed form, with compatibility characters in their usual spelling.

    Full and half width, ligatures, presentation forms and mathematical letters are spelled as usual; superscripts and
    fractions stay. Arabic vowel points and tatweel, variation selectors and soft hyphens are left out.
    """
    for sequence, letter in _SPELLINGS:
        if sequence in text:
            text = text.replace(sequence, letter)
    text = compose(compose(text).translate(_COMPATIBLE))
    if "\u0e4d" in text or "\u0ecd" in text:
        for pattern, spelled in _SARA_AM:
            text = pattern.sub(spelled, text)
    return text


def apply_script_rules(text: str, lang: str | None = None) -> str:
    """Return a transcript with one spelling for every word, and one blank between words.

    Args:
        lang: the code of the language, as `language_code` returns it; None: unknown.
    """
    text = drop_noise_tags(usual_spelling(text))
    if lang != "yi":  # the points of Yiddish distinguish letters
        text = text.translate(_HEBREW_TABLE)
    text = _fold_case(text, lang)
    text = _protect(text, lang).translate(_TABLE).translate(_PLACEHOLDERS)
    return " ".join(compose(text).split())


def _fold_case(text: str, lang: str | None) -> str:
    if lang in ("tr", "az"):
        text = text.replace("I\u0307", "i").translate(_DOTLESS)
    return text.replace("İ", "i").casefold().replace("i\u0307", "i")


def _protect(text: str, lang: str | None) -> str:
    """Return a transcript with placeholders for apostrophes, points and commas that belong to a word or a number."""
    text = _GERSHAYIM.sub(_QUOTE, text)
    text = _GERESH.sub(_APOSTROPHE, text)
    text = _INNER_APOSTROPHE.sub(_APOSTROPHE, text)
    text = _CATALAN_DOT.sub(_DOT, text)
    if not _DECIMAL.search(text):
        return text
    text = text.replace("\u066b", ".")
    divided, divider = (_THOUSANDS_STOP, ".") if lang in DECIMAL_COMMA else (_THOUSANDS_COMMA, ",")
    text = divided.sub(lambda match: match[0].replace(divider, ""), text)
    return _DECIMAL.sub(lambda match: _STOP if match[0] == "." else _COMMA, text)
