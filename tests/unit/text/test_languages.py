"""One table of languages: every tag of the field gives one code, and one tag to write."""

from __future__ import annotations

import pytest

from curate.text import language_code, language_tag, parse_language
from curate.text.languages import CODES


@pytest.mark.parametrize(
    ("tag", "code", "written"),
    [
        ("en", "en", "en"),
        ("en_us", "en", "en-US"),
        ("EN-us", "en", "en-US"),
        ("deu", "de", "de"),
        ("ger", "de", "de"),
        ("deu_Latn", "de", "de"),
        ("zho_Hans", "zh", "zh-Hans"),
        ("zh-TW", "zh", "zh-TW"),
        ("cmn_hans_cn", "zh", "zh-Hans-CN"),
        ("zh-yue", "yue", "yue"),
        ("jw", "jv", "jv"),
        ("nb", "no", "no"),
        ("nn-NO", "nn", "nn-NO"),
        ("tl", "fil", "fil"),
        ("sr_Latn", "sr", "sr-Latn"),
        ("uzn_Cyrl", "uz", "uz-Cyrl"),
        ("hin_Deva", "hi", "hi"),
        ("es-419", "es", "es-419"),
        ("arb_Arab", "ar", "ar"),
        ("haw", "haw", "haw"),
        ("en-x-lvariant", "en", "en"),
        (" fr ", "fr", "fr"),
    ],
)
def test_tag_of_any_kind_gives_one_code_and_one_tag(tag: str, code: str, written: str) -> None:
    assert language_code(tag) == code
    assert language_tag(tag) == written
    assert language_tag(written) == written


@pytest.mark.parametrize(
    "tag", ["und", "mul", "zxx", "mis", "", "english", "e", "en us", "日本語", "x" * 65, None, 7, ["en"]]
)
def test_tag_without_language_gives_none(tag: object) -> None:
    assert language_code(tag) is None
    assert language_tag(tag) is None


def test_code_of_the_table_is_its_own_code() -> None:
    assert {CODES.get(code, code) for code in CODES.values()} == set(CODES.values())


def test_language_keeps_script_and_region() -> None:
    language = parse_language("zh_hant_hk")
    assert language is not None
    assert (language.code, language.script, language.region) == ("zh", "Hant", "HK")
