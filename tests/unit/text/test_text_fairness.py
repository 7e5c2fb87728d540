"""Normalisation never changes what a word is: pairs in fourteen scripts, and random Unicode."""

from __future__ import annotations

import random

import pytest

from curate.text import character_errors, language_code, normaliser, word_errors
from curate.text.english import match_digit_groups

EQUAL = [
    ("arabic_vowels", "كَتَبَ الوَلَدُ", "كتب الولد", None),
    ("arabic_tatweel", "مـــرحبا", "مرحبا", "ar"),
    ("arabic_presentation_forms", "ﻣﺮﺣﺒﺎ", "مرحبا", None),
    ("arabic_digits", "عام ٢٠٢٤", "عام 2024", None),
    ("persian_zwnj", "می\u200cخواهم", "میخواهم", "fa"),
    ("hebrew_points", "שָׁלוֹם עוֹלָם", "שלום עולם", None),
    ("hebrew_gershayim", 'צה"ל', "צה״ל", "he"),
    ("hebrew_maqaf", "בית־ספר", "בית ספר", None),
    ("turkish_capitals", "IĞDIR İZMİR", "ığdır izmir", "tr"),
    ("azeri_capitals", "QIZIL", "qızıl", "az"),
    ("turkish_without_language", "İstanbul", "istanbul", None),
    ("german_sharp_s", "STRASSE", "straße", None),
    ("german_thousands", "1.000.000 Euro", "1000000 Euro", "de"),
    ("french_apostrophe", "l’homme", "l'homme", "fr"),
    ("french_quotes", "« oui »", "oui", None),
    ("spanish_marks", "¿Qué?", "qué", None),
    ("ligatures", "ﬁnden", "finden", None),
    ("width", "ＡＢＣ１２３", "abc123", None),
    ("composition", "cafe\u0301", "café", None),
    ("vietnamese_composition", "tie\u0302\u0301ng", "tiếng", "vi"),
    ("yoruba_composition", "o\u0323\u0301jo\u0323\u0301", "\u1ecd\u0301j\u1ecd\u0301", "yo"),
    ("greek_final_sigma", "ΛΌΓΟΣ", "λόγος", "el"),
    ("cyrillic_case", "МОСКВА!", "москва", "ru"),
    ("ukrainian_apostrophe", "п’ять", "п'ять", "uk"),
    ("armenian_question", "ինչո՞ւ", "ինչու", "hy"),
    ("georgian_capitals", "ᲓᲔᲓᲐ", "დედა", "ka"),
    ("ethiopic_wordspace", "ሰላም፡ዓለም", "ሰላም ዓለም", "am"),
    ("hindi_danda", "यह घर है।", "यह घर है", "hi"),
    ("hindi_nukta", "क\u093cलम", "\u0958लम", None),
    ("hindi_digits", "१२ घर", "12 घर", None),
    ("bengali_khanda_ta", "উত্\u200dসব", "উৎসব", "bn"),
    ("malayalam_chillu", "അവന്\u200d", "അവൻ", "ml"),
    ("sinhala_joiner", "ශ්\u200dරී", "ශ්රී", "si"),
    ("tamil_two_part_vowel", "கெ\u0bbe", "கொ", "ta"),
    ("thai_blanks", "สวัสดี ครับ", "สวัสดีครับ", "th"),
    ("thai_sara_am", "นํ้า", "น้ำ", "th"),
    ("lao_blanks", "ສະບາຍ ດີ", "ສະບາຍດີ", "lo"),
    ("khmer_zero_width_space", "សួស្តី\u200bពិភពលោក", "សួស្តីពិភពលោក", "km"),
    ("burmese_punctuation", "မင်္ဂလာပါ။", "မင်္ဂလာပါ", "my"),
    ("chinese_comma", "你好，世界。", "你好世界", "zh"),
    ("chinese_blanks", "今天 天气 很好", "今天天气很好", None),
    ("chinese_title", "《红楼梦》", "红楼梦", "zh-TW"),
    ("japanese_half_width", "ｶﾞｷﾞｸﾞ", "ガギグ", "ja"),
    ("japanese_middle_dot", "ジョン・スミス", "ジョンスミス", "ja"),
    ("korean_jamo", "\u1112\u1161\u11ab국", "한국", "ko"),
    ("tibetan_shad", "བོད་སྐད།", "བོད་སྐད", "bo"),
    ("noise_tags", "[noise] hello <unk> (laughs) {breath} *coughs*", "hello", None),
    ("speech_in_brackets", "i said (quietly) yes", "i said quietly yes", None),
    ("only_noise", "[Applause]", "", None),
    ("only_punctuation", "...", "", None),
    ("music", "♪ la la ♪", "la la", None),
    ("emoji", "hello 😀 there", "hello there", None),
    ("emoji_sequence", "ok 👩‍👩‍👧 ❤️", "ok", None),
    ("zero_width", "\ufeffhello\u200bworld", "hello world", None),
    ("soft_hyphen", "Donau\u00addampf", "donaudampf", "de"),
    ("thousands", "1,000,000 people", "1000000 people", None),
    ("english_numbers", "one hundred and twenty three", "123", "en"),
    ("english_percent", "50%", "fifty percent", "en-GB"),
    ("english_year", "nineteen ninety five", "1995", "eng"),
    ("english_phone_number", "five five five one two three four", "555 1234", "en"),
    ("english_spelling", "my favourite colour", "my favorite color", "en"),
]

DIFFERENT = [
    ("hindi_vowel", "की", "का", None, 1, 1),
    ("hindi_sentence", "वह घर जाती है", "वह घर जाता है", "hi", 1, 4),
    ("bengali_vowel", "কি", "কী", "bn", 1, 1),
    ("tamil_virama", "கல்", "கல", "ta", 1, 1),
    ("telugu_vowel", "కి", "కు", "te", 1, 1),
    ("sinhala_vowel", "කි", "කු", "si", 1, 1),
    ("thai_tone", "ข้าว", "ขาว", "th", 1, 4),
    ("arabic_hamza", "أكل", "اكل", "ar", 1, 1),
    ("arabic_ta_marbuta", "مدرسة", "مدرسه", "ar", 1, 1),
    ("hebrew_letter", "כל", "קל", "he", 1, 1),
    ("yiddish_points", "פֿון", "פון", "yi", 1, 1),
    ("vietnamese_tone", "má ma", "mà ma", "vi", 1, 2),
    ("yoruba_tone", "ọkọ́", "ọkọ̀", "yo", 1, 1),
    ("turkish_dotless", "ılık", "ilik", "tr", 1, 1),
    ("spanish_tilde", "año", "ano", "es", 1, 1),
    ("german_umlaut", "schon", "schön", "de", 1, 1),
    ("greek_accent", "πότε", "ποτέ", "el", 1, 1),
    ("russian_short_i", "мой", "мои", "ru", 1, 1),
    ("chinese_character", "你好世界", "你好时界", "zh", 1, 4),
    ("japanese_dakuten", "かき", "がき", "ja", 1, 2),
    ("khmer_vowel", "ការ", "ការី", "km", 1, 3),
    ("decimals", "3.14", "314", None, 1, 1),
    ("superscript", "x²", "x2", None, 1, 1),
    ("possessive", "Mario's castle", "marios castle", None, 1, 2),
    ("english_possessive", "Mario's castle", "marios castle", "en", 1, 2),
    ("apostrophe_missing", "dont you cant", "don't you can't", None, 2, 3),
    ("digits", "one two three", "one two four", "en", 1, 3),
    ("digits_of_a_phone_number", "five five five one two three four", "5551235", "en", 1, 7),
    ("no_english_without_language", "il a dit one", "il a dit 1", None, 1, 4),
    ("hallucination", "", "thank you for watching", None, 4, 0),
]


def normalised(text: str, pred_text: str, lang: str | None) -> tuple[str, str, str | None]:
    code = language_code(lang)
    auto = normaliser("auto")
    pair = auto(text, code), auto(pred_text, code)
    return (*(match_digit_groups(*pair) if code == "en" else pair), code)


@pytest.mark.parametrize(("text", "pred_text", "lang"), [row[1:] for row in EQUAL], ids=[row[0] for row in EQUAL])
def test_two_spellings_of_the_same_words_have_rate_zero(text: str, pred_text: str, lang: str | None) -> None:
    one, two, code = normalised(text, pred_text, lang)
    assert word_errors(one, two, "auto").rate == 0.0, (one, two)
    assert character_errors(one, two, code).rate == 0.0, (one, two)


@pytest.mark.parametrize(
    ("text", "pred_text", "lang", "errors", "length"),
    [row[1:] for row in DIFFERENT],
    ids=[row[0] for row in DIFFERENT],
)
def test_different_words_are_errors(text: str, pred_text: str, lang: str | None, errors: int, length: int) -> None:
    one, two, _ = normalised(text, pred_text, lang)
    found = word_errors(one, two, "auto")
    assert (found.errors, found.reference_length) == (errors, length), (one, two)


@pytest.mark.slow
def test_random_unicode_has_no_exception_rate_zero_to_itself_and_symmetric_errors() -> None:
    draw = random.Random(18)
    tags = [None, "en", "tr", "yi", "th", "de"]

    def character() -> str:
        kind = draw.random()
        if kind < 0.4:
            return chr(draw.randrange(0x20, 0x7F))
        return chr(draw.randrange(0x3100) if kind < 0.8 else draw.randrange(0x110000))

    def text() -> str:
        return "".join(character() for _ in range(draw.randrange(20)))

    for number in range(50_000):
        one, two, lang = normalised(text(), text(), tags[number % len(tags)])
        assert word_errors(one, one, "auto").rate == character_errors(one, one, lang).rate == 0.0
        assert word_errors(one, two, "auto").errors == word_errors(two, one, "auto").errors, (one, two)
        assert character_errors(one, two, lang).errors == character_errors(two, one, lang).errors, (one, two)


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("deu_Latn", "de"),
        ("zh-TW", "zh"),
        ("cmn-Hant-TW", "zh"),
        ("zh-yue", "yue"),
        ("yue", "yue"),
        ("jw", "jv"),
        ("nb", "no"),
        ("nn-NO", "nn"),
        ("tl", "fil"),
        ("EN_us", "en"),
        ("hi_in", "hi"),
        ("ger", "de"),
        ("swh", "sw"),
        ("haw", "haw"),
        ("iw", "he"),
        ("und", None),
        ("", None),
        ("English language", None),
        (None, None),
        (3, None),
    ],
)
def test_codes_of_a_language_are_compared_as_one(tag: object, code: str | None) -> None:
    assert language_code(tag) == code
