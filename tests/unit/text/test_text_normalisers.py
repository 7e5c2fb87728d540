"""Normalisers: found by name, built once, loaded only when used."""

import subprocess
import sys
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

import curate.text
from curate.errors import PlanError
from curate.text import NORMALISERS, normaliser
from curate.text.composing import compose
from curate.text.normalisers import auto, whisper_basic, whisper_english


def test_importing_the_package_loads_neither_rapidfuzz_nor_whisper_normalizer_nor_numpy() -> None:
    program = (
        "import curate.text, sys; "
        "print(*{'jiwer', 'rapidfuzz', 'whisper_normalizer', 'numpy', 'torch'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_everything_announced_exists_once() -> None:
    assert all(hasattr(curate.text, name) for name in curate.text.__all__)
    assert len(set(curate.text.__all__)) == len(curate.text.__all__)


@pytest.mark.parametrize("name", NORMALISERS)
def test_every_listed_normaliser_can_be_built_and_is_built_once(name: str) -> None:
    assert normaliser(name) is normaliser(name)
    assert isinstance(normaliser(name)("Hello"), str)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two three", "one 2 3"),
        ("oh one two", "0 one 2"),
        ("two twenty", "220"),
        ("double seven", "7 7"),
        ("nineteen ninety five", "1995"),
        ("three point one four", "3.14"),
        ("fifty percent", "50%"),
        ("Mario’s castle isnt (quietly) his", "mario's castle is not quietly his"),
        ("it's 한국 की", "it is 한국 की"),
        ("...", ""),
        ("1", "one"),
        ("I'll pay twenty dollars", "i will pay $20"),
        ("Mr. Smith's colour -- uh, hmm [noise]", "mister smith's color"),
        ("", ""),
    ],
)
def test_whisper_english_keeps_spoken_digits_apart_and_joins_amounts(text: str, expected: str) -> None:
    assert normaliser("whisper-english")(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One, two three!", "one two three"),
        ("I'll pay twenty dollars", "i ll pay twenty dollars"),
        ("[noise] Straße (laughs)", "straße"),
        ("...", ""),
    ],
)
def test_whisper_basic_leaves_the_words_alone(text: str, expected: str) -> None:
    assert normaliser("whisper-basic")(text) == expected


@given(st.text())
def test_none_leaves_the_text_alone(text: str) -> None:
    assert normaliser("none")(text) == text


@pytest.mark.parametrize("name", ["whisper-english", "whisper-basic"])
@given(text=st.text())
def test_normalised_text_has_no_blanks_at_its_ends_and_no_double_ones(name: str, text: str) -> None:
    result = normaliser(name)(text)
    assert result == result.strip()
    assert "  " not in result


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(PlanError, match=r"'whisper_english'.*did you mean 'whisper-english'"):
        normaliser("whisper_english")


def test_a_name_near_nothing_is_answered_with_all() -> None:
    with pytest.raises(PlanError, match="choose from auto, script, whisper-english, whisper-basic, none"):
        normaliser("qqq")


def test_a_number_of_many_digits_stays_as_it_is() -> None:
    assert normaliser("whisper-english")("1" * 5000) == "1" * 5000


@pytest.mark.parametrize("letters", ["(", "<", "[", "!", "a\u0301\u0323", "9,", "'"])
def test_time_of_rules_grows_with_the_length_alone(letters: str) -> None:
    def seconds(length: int) -> float:
        text = (letters * length)[:length] + "a"
        began = time.process_time()
        for rules in (auto, whisper_english, whisper_basic):
            rules(text)
        return time.process_time() - began

    seconds(1000)  # loads the tables
    assert seconds(40_000) < 20 * seconds(4_000) + 0.2


@pytest.mark.parametrize(
    ("text", "left"),
    [("a [b] (c) d", "a d"), ("a <b> d)", "a d"), ("a (b [c) d] e", "a b e"), ("() x", "x"), ("a ((b) c", "a c")],
)
def test_brackets_are_left_out_as_whisper_does(text: str, left: str) -> None:
    from whisper_normalizer.basic import BasicTextNormalizer  # pyright: ignore[reportMissingTypeStubs]

    assert whisper_basic(text) == str(BasicTextNormalizer()(text)).strip() == left


@given(st.text(alphabet="ab[]()<> \n"))
def test_brackets_of_any_string_are_left_out_as_whisper_does(text: str) -> None:
    from whisper_normalizer.basic import BasicTextNormalizer  # pyright: ignore[reportMissingTypeStubs]

    assert whisper_basic(text) == str(BasicTextNormalizer()(text)).strip()


def test_only_marks_beyond_thirty_are_left_out_where_a_string_is_composed() -> None:
    short, long = "e\u0301" + "\u0323" * 40, "x" * 1000 + "e" + "\u0323" * 40 + "e\u0301"
    assert compose(short) == unicodedata.normalize("NFC", short)
    assert compose(long) == unicodedata.normalize("NFC", long.replace("\u0323" * 40, "\u0323" * 30))
