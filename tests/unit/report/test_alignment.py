"""Texts are aligned as they were compared, in words or characters, and cut where they are endless."""

from __future__ import annotations

import attrs
import pytest

from curate.plugin import PluginHost
from curate.report.alignment import Alignment, align
from curate.report.columns import Comparison, columns_of
from curate.report.samples import Sample, sample_of

WORDS = Comparison("wer", "wer", "text", "pred_text", "whisper-basic", "word")


def aligned(reference: str, hypothesis: str | None, compared: Comparison = WORDS) -> Alignment:
    columns = attrs.evolve(columns_of({}), comparison=compared)
    row = {"_id": "a:1", "text": reference, "pred_text": hypothesis}
    sample: Sample = sample_of("kept", row, columns)
    return align(sample, compared, PluginHost())


def told(alignment: Alignment) -> list[tuple[str, str, str]]:
    return [(pair.kind, pair.reference, pair.hypothesis) for pair in alignment.pairs]


def test_words_are_compared_as_the_stage_did_it() -> None:
    assert told(aligned("One, two THREE!", "one too three four")) == [
        ("equal", "one", "one"),
        ("substitute", "two", "too"),
        ("equal", "three", "three"),
        ("insert", "", "four"),
    ]


def test_characters_and_blanks_are_units_of_their_own() -> None:
    compared = attrs.evolve(WORDS, unit="character", normaliser="none")
    assert told(aligned("a b", "ab", compared)) == [("equal", "a", "a"), ("delete", " ", ""), ("equal", "b", "b")]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "kinds"), [("", "a", ["insert"]), ("a", None, ["delete"]), ("", "", [])]
)
def test_empty_texts(reference: str, hypothesis: str | None, kinds: list[str]) -> None:
    assert [kind for kind, _, _ in told(aligned(reference, hypothesis))] == kinds


def test_an_endless_text_is_cut() -> None:
    alignment = aligned("word " * 10_000, "word " * 10_000)
    assert alignment.cut
    assert len(alignment.pairs) == 120


def test_rules_that_nobody_here_knows_leave_the_texts_as_they_are() -> None:
    assert told(aligned("One", "one", attrs.evolve(WORDS, normaliser="mine"))) == [("substitute", "One", "one")]
