"""Alphabets: the letters that the spelling of a language uses, lower case; for scripts of one or few languages, all."""

from __future__ import annotations

import functools
import unicodedata

import attrs

from curate.text.script_rules import usual_spelling
from curate.text.scripts import script_of

_AZ = "abcdefghijklmnopqrstuvwxyz"
_CYRILLIC = "абвгдежзийклмнопрстуфхцчшщьюя"

# Letters in addition to a–z; a–z is allowed in all Latin alphabets, for names.
_LATIN = {
    "en": "éèêëàâäçïîôöùûüñæœ",
    "af": "áäéèêëíîïóôöúûüý",
    "az": "çəğıiöşü",
    "bs": "čćđšž",
    "ca": "àçéèíïóòúü·",
    "cs": "áčďéěíňóřšťúůýž",
    "cy": "âêîôûŵŷáéíóúẁẃäëïöẅÿ",
    "da": "æøåé",
    "de": "äöüßéàè",
    "eo": "ĉĝĥĵŝŭ",
    "es": "áéíóúüñ",
    "et": "äõöüšž",
    "eu": "ñç",
    "fi": "äöåšž",
    "fil": "ñáéíóúàèìòùâêîôû",
    "fr": "àâæçéèêëîïôœùûüÿ",
    "ga": "áéíóú",
    "gl": "áéíóúüñï",
    "ha": "ɓɗƙƴ",
    "hr": "čćđšž",
    "hu": "áéíóöőúüű",
    "id": "é",
    "ig": "ịọụṅàáèéìíòóùúǹ",
    "is": "áðéíóúýþæö",
    "it": "àèéìíîòóùú",
    "jv": "éèâêåěòô",
    "lb": "äëéêèîôûçü",
    "lt": "ąčęėįšųūž",
    "lv": "āčēģīķļņšūž",
    "mi": "āēīōū",
    "ms": "é",
    "mt": "ċġħżàèìòù",
    "nl": "éèëïóöüáíúêâôûç",
    "nn": "æøåàéêóòô",
    "no": "æøåàéêóòô",
    "pl": "ąćęłńóśźż",
    "pt": "áàâãçéêíóôõúü",
    "ro": "ăâîșțşţ",
    "sk": "áäčďéíĺľňóôŕšťúýž",
    "sl": "čšžćđ",
    "so": "",
    "sq": "çë",
    "sv": "åäöéàü",
    "sw": "",
    "tk": "çäžňöşüý",
    "tr": "çğıöşüâîû",
    "uz": "",
    "vi": "ăâđêôơưàảãáạằẳẵắặầẩẫấậèẻẽéẹềểễếệìỉĩíịòỏõóọồổỗốộờởỡớợùủũúụừửữứựỳỷỹýỵ",
    "yo": "ẹọṣàáèéìíòóùúǹńḿ",
    "zu": "",
    "xh": "",
}
_CYRILLIC_ALPHABETS = {
    "ru": f"{_CYRILLIC}ёъыэ",
    "uk": f"{_CYRILLIC}ґєії",
    "be": "абвгдеёжзійклмнопрстуўфхцчшыьэюя",
    "bg": f"{_CYRILLIC}ъѝ",
    "mk": "абвгдѓежзѕијклљмнњопрстќуфхцчџшѐѝ",
    "sr": "абвгдђежзијклљмнњопрстћуфхцчџш",
    "kk": f"{_CYRILLIC}ёъыэәғқңөұүһі",
    "ky": f"{_CYRILLIC}ёъыэңөү",
    "mn": f"{_CYRILLIC}ёъыэөү",
    "tg": f"{_CYRILLIC}ёъэғӣқӯҳҷыц",
    "tt": f"{_CYRILLIC}ёъыэәөүҗңһ",
    "ba": f"{_CYRILLIC}ёъыэәғҙҡңөҫүһ",
    "cv": f"{_CYRILLIC}ёъыэӑӗҫӳ",
}
_SCRIPTS = {
    "ar": ("Arab",),
    "fa": ("Arab",),
    "ur": ("Arab",),
    "ps": ("Arab",),
    "sd": ("Arab",),
    "ug": ("Arab",),
    "he": ("Hebr",),
    "yi": ("Hebr",),
    "el": ("Grek",),
    "hy": ("Armn",),
    "ka": ("Geor",),
    "am": ("Ethi",),
    "ti": ("Ethi",),
    "hi": ("Deva",),
    "mr": ("Deva",),
    "ne": ("Deva",),
    "sa": ("Deva",),
    "bn": ("Beng",),
    "as": ("Beng",),
    "pa": ("Guru",),
    "gu": ("Gujr",),
    "or": ("Orya",),
    "ta": ("Taml",),
    "te": ("Telu",),
    "kn": ("Knda",),
    "ml": ("Mlym",),
    "si": ("Sinh",),
    "th": ("Thai",),
    "lo": ("Laoo",),
    "km": ("Khmr",),
    "my": ("Mymr",),
    "bo": ("Tibt",),
    "dz": ("Tibt",),
    "dv": ("Thaa",),
    "zh": ("Hani", "Bopo"),
    "yue": ("Hani", "Bopo"),
    "ja": ("Hani", "Hira", "Kana"),
    "ko": ("Hang", "Hani"),
}


@attrs.frozen
class Alphabet:
    """The letters of a language: some, or all of some scripts."""

    letters: frozenset[str] = frozenset()
    scripts: frozenset[str] = frozenset()

    def __contains__(self, letter: object) -> bool:
        return letter in self.letters or (isinstance(letter, str) and script_of(letter) in self.scripts)


@functools.cache
def alphabet_of(lang: str) -> Alphabet | None:
    """Return the alphabet of a language, by its code as `language_code` returns it; None: there is no data for it."""
    if lang in _LATIN:
        return Alphabet(frozenset(_AZ + _LATIN[lang]))
    if lang in _CYRILLIC_ALPHABETS:
        return Alphabet(frozenset(_CYRILLIC_ALPHABETS[lang]))
    return Alphabet(scripts=frozenset(_SCRIPTS[lang])) if lang in _SCRIPTS else None


def share_in_alphabet(text: str, alphabet: Alphabet) -> tuple[float | None, str]:
    """Return the share of a transcript's letters in an alphabet, None without letters, and the others, each once.

    Digits, punctuation, symbols and combining marks that no letter absorbs are not counted.
    """
    letters = [
        letter for letter in usual_spelling(text).replace("İ", "i").lower() if unicodedata.category(letter)[0] == "L"
    ]
    outside = [letter for letter in letters if letter not in alphabet]
    share = (len(letters) - len(outside)) / len(letters) if letters else None
    return share, "".join(sorted(set(outside)))
