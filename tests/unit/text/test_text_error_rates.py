"""Error rates: counted right, and decided for an empty reference."""

from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import RecordError
from curate.text import ErrorRate, character_errors, corpus_rate, edge_errors, word_errors

WORDS = st.lists(st.sampled_from(["zero", "one", "two", "three", "ä"]), max_size=8)


def distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Levenshtein's distance by the textbook, to judge RapidFuzz by."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def test_the_kinds_of_error_are_told_apart() -> None:
    result = word_errors("one two three four", "one too three four five")
    assert result == ErrorRate(3, 1, 0, 1, max_insertion_run=1)
    assert (result.errors, result.reference_length, result.rate) == (2, 4, 0.5)
    assert word_errors("one two", "one") == ErrorRate(1, 0, 1, 0, max_deletion_run=1)


def test_characters_are_counted_with_the_blanks_between_words() -> None:
    result = character_errors("a b", "ab")
    assert result == ErrorRate(2, 0, 1, 0, max_deletion_run=1)
    assert result.reference_length == 3


@given(WORDS.filter(bool), WORDS)
def test_word_errors_are_the_fewest_edits(reference: list[str], hypothesis: list[str]) -> None:
    result = word_errors(" ".join(reference), " ".join(hypothesis))
    assert result.errors == distance(reference, hypothesis)
    assert result.reference_length == len(reference)
    assert result.hits + result.substitutions + result.insertions == len(hypothesis)
    assert result.rate == result.errors / len(reference)


@given(WORDS.filter(bool), WORDS)
def test_character_errors_are_the_fewest_edits(reference: list[str], hypothesis: list[str]) -> None:
    a, b = " ".join(reference), " ".join(hypothesis)
    result = character_errors(a, b)
    assert result.errors == distance(a, b)
    assert result.reference_length == len(a)


@pytest.mark.parametrize("blank", [" ", "  ", "\t", "\n", "\u00a0", "\u3000", " \r\n "])
def test_any_run_of_blanks_is_one(blank: str) -> None:
    text = f"{blank}one{blank}two{blank}"
    assert word_errors(text, "one two").rate == 0.0
    assert word_errors("one two", text).rate == 0.0
    assert character_errors(text, "one two").rate == 0.0


@pytest.mark.parametrize("reference", ["", " ", "\t\n"])
def test_empty_reference_counts_as_one_word(reference: str) -> None:
    assert (word_errors(reference, "").errors, word_errors(reference, "").rate) == (0, 0.0)
    heard = word_errors(reference, "thank you for watching")
    assert (heard.errors, heard.insertions, heard.reference_length, heard.rate) == (4, 4, 0, 4.0)
    assert heard.max_insertion_run == 4
    assert character_errors(reference, "ab").rate == 2.0


def test_longest_runs_of_insertions_and_deletions_are_counted() -> None:
    result = word_errors("a b c d e f g h i j", "x y z a b c d e f g")
    assert (result.max_insertion_run, result.max_deletion_run) == (3, 3)
    scattered = word_errors("a b c d", "a x b y c z d")
    assert (scattered.insertions, scattered.max_insertion_run) == (3, 1)


def test_edge_errors_compare_twelve_characters_at_each_end() -> None:
    start, end = edge_errors("the quick brown fox jumps", "quick brown fox jumps")
    assert start.rate > 0.5
    assert end.rate == 0.0
    assert start.reference_length == end.reference_length == 12


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors", "length"),
    [
        ("我爱 machine learning", "我爱 machine earning", 1, 4),
        ("今天天气", "今天 天气", 0, 4),
        ("สวัสดีครับ", "สวัสดี ครับ", 0, 10),
        ("hello world", "hello word", 1, 2),
    ],
)
def test_auto_level_counts_characters_of_unspaced_scripts(
    reference: str, hypothesis: str, errors: int, length: int
) -> None:
    result = word_errors(reference, hypothesis, level="auto")
    assert (result.errors, result.reference_length) == (errors, length)


@pytest.mark.parametrize("count", [word_errors, character_errors])
def test_an_empty_hypothesis_has_rate_one(count) -> None:
    assert count("one two", "").rate == 1.0
    assert count("one two", " ").rate == 1.0


def test_a_rate_can_exceed_one() -> None:
    assert word_errors("one", "one two three").rate == 2.0


def test_long_texts_do_not_take_quadratic_memory() -> None:
    assert character_errors("abcdefghi " * 6000, "abcdxfghi " * 6000).errors == 6000


def test_the_corpus_rate_weighs_by_length() -> None:
    long, short = word_errors("one " * 9, "one " * 9), word_errors("one", "two")
    assert corpus_rate([long, short]) == 0.1
    assert corpus_rate(iter([long])) == 0.0


def test_the_corpus_rate_of_nothing_has_no_meaning() -> None:
    with pytest.raises(ValueError, match="undefined"):
        corpus_rate([])


def test_error_rates_are_values() -> None:
    result = word_errors("one", "one")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        result.hits = 2  # type: ignore[misc]
    assert hash(result) == hash(word_errors("two", "two"))


def test_texts_that_take_hours_to_compare_are_refused() -> None:
    long = "a b " * 200_000
    with pytest.raises(RecordError, match="texts of 400,000 and 400,000 units are too long to be compared"):
        word_errors(long, long)
    assert word_errors(long, "a b").deletions == 399_998
