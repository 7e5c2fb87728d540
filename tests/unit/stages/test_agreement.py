"""The stages `agreement` and `select_best`: several transcripts of a record, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import Pipeline
from curate.errors import PlanError
from curate.plugin import PluginHost
from curate.records import AudioBatch, Record
from curate.stages import Agreement, ReadRecords, SelectBest
from curate.testing import StageContract
from curate.text.consensus import find_majority, join_words
from tests.unit.stages.stub_recogniser import StubAsrStage

HOST = PluginHost(environment={"CURATE_PLUGINS": ""})


class TestAgreement(StageContract):
    def stage(self) -> Agreement:
        return Agreement(["a", "b", "c"])

    def records(self, folder: Path) -> Sequence[Record]:
        return [
            {"a": "one two", "b": "one two", "c": "One, two."},
            {"a": "one two", "b": "one three", "c": None},
            {"a": "one", "b": "one", "c": 3},
        ]


class TestSelectBest(StageContract):
    def stage(self) -> SelectBest:
        return SelectBest(["a", "b"], score_keys=["p", "q"])

    def records(self, folder: Path) -> Sequence[Record]:
        return [
            {"a": "one", "b": "two", "p": -0.5, "q": -0.25},
            {"a": "one", "b": "two", "p": None, "q": -9},
            {"a": "one", "b": "two", "p": "high", "q": 1.0},
        ]


def agreement(*texts: str | None, **settings: Any) -> Record:
    stage = Agreement([f"text{place}" for place in range(len(texts))], **settings)
    stage.setup()
    record: Record = {f"text{place}": text for place, text in enumerate(texts)}
    [record] = stage.process(AudioBatch([record])).data
    return record


def test_equal_texts_agree_and_keep_the_first_spelling() -> None:
    record = agreement("I can't, really.", "I can't really")
    assert (record["agreement_wer"], record["agreement_cer"], record["agreement_share"]) == (0.0, 0.0, 1.0)
    assert record["agreement_text"] == "I can't, really."
    assert record["agreement_parts"] == [{"text": "I can't, really.", "votes": 2}]


def test_majority_decides_each_word_and_parts_show_where() -> None:
    record = agreement("the cat sat on a mat", "the bat sat on the mat", "the cat sat on the hat")
    assert record["agreement_text"] == "the cat sat on the mat"
    assert record["agreement_wer"] == 0.3333
    assert [(pair["first"], pair["second"], pair["wer"]) for pair in record["agreement_pairs"]] == [
        ("text0", "text1", 0.3333),
        ("text0", "text2", 0.3333),
        ("text1", "text2", 0.3333),
    ]
    assert record["agreement_share"] == 0.5
    assert record["agreement_parts"] == [
        {"text": "the", "votes": 3},
        {"text": "cat", "votes": 2},
        {"text": "sat on", "votes": 3},
        {"text": "the mat", "votes": 2},
    ]


def test_word_that_most_lack_is_left_out_and_shown_as_a_gap() -> None:
    record = agreement("one two three", "one three", "one three")
    assert record["agreement_text"] == "one three"
    assert record["agreement_parts"][1] == {"text": "", "votes": 2}


def test_word_that_most_have_is_put_in() -> None:
    assert agreement("one three", "one two three", "one two three")["agreement_text"] == "one two three"


def test_tie_is_decided_by_the_order_of_the_columns() -> None:
    assert agreement("a b", "a c")["agreement_text"] == "a b"
    assert agreement("a c", "a b")["agreement_text"] == "a c"
    assert agreement("a", "a b")["agreement_text"] == "a"
    assert agreement("a b", "a")["agreement_text"] == "a b"


def test_texts_without_blanks_are_aligned_by_character() -> None:
    record = agreement("今天天气好", "今天天汽好", "今天气好")
    assert record["agreement_text"] == "今天天气好"


@pytest.mark.parametrize(
    ("texts", "wer", "share"), [(("", None), 0.0, 1.0), (("one", ""), 1.0, 0.0), (("", "one two"), 2.0, 0.0)]
)
def test_empty_texts_have_an_answer(texts: tuple[str | None, ...], wer: float, share: float) -> None:
    record = agreement(*texts)
    assert (record["agreement_wer"], record["agreement_share"]) == (wer, share)
    assert record["agreement_text"] == (texts[0] or "")


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=8).map(" ".join)


@given(st.lists(WORDS, min_size=2, max_size=5))
def test_majority_has_a_vote_of_each_text_in_each_place(texts: list[str]) -> None:
    places = find_majority(texts, str)
    assert all(1 <= place.votes <= len(texts) for place in places)
    assert len(places) <= sum(len(text.split()) for text in texts)


@given(WORDS, WORDS, st.integers(0, 2))
def test_two_equal_texts_of_three_are_the_majority(same: str, other: str, place: int) -> None:
    texts = [same, same]
    texts.insert(place, other)
    assert join_words(find_majority(texts, str)) == same


def best(record: Record, *keys: str, **settings: Any) -> Record:
    stage = SelectBest(list(keys), **settings)
    stage.setup()
    [record] = stage.process(AudioBatch([record])).data
    return record


def test_best_is_the_text_nearest_to_all_others() -> None:
    record = best({"a": "x b c d", "b": "a b c d", "c": "a b c y"}, "a", "b", "c")
    assert (record["best_text"], record["best_source"], record["best_score"]) == ("a b c d", "b", 0.25)


def test_short_text_is_not_favoured() -> None:
    record = best({"a": "x", "b": "a b c d", "c": "a b c d"}, "a", "b", "c")
    assert (record["best_source"], record["best_score"]) == ("b", 0.5)


def test_best_is_chosen_by_score_in_either_order() -> None:
    record = {"a": "one", "b": "two", "p": 0.5, "q": 0.25}
    assert best(dict(record), "a", "b", score_keys=["p", "q"])["best_source"] == "a"
    assert best(dict(record), "a", "b", score_keys=["p", "q"], order="lowest")["best_source"] == "b"


def test_null_scores_are_chosen_last_and_ties_go_to_the_first() -> None:
    keys = {"score_keys": ["p", "q"]}
    assert best({"a": "one", "b": "two", "p": None, "q": -3.0}, "a", "b", **keys)["best_text"] == "two"
    tied = best({"a": "one", "b": "two", "p": None, "q": None}, "a", "b", **keys)
    assert (tied["best_text"], tied["best_score"]) == ("one", None)
    assert best({"a": "one", "b": "two", "p": 1, "q": 1}, "a", "b", **keys)["best_text"] == "one"


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Agreement(["text"]), "two columns or more"),
        (Agreement(["text", "text"]), "named twice"),
        (Agreement(["text", "other"]), "'other', which no earlier stage writes"),
        (Agreement(["text", "also"], prefix=""), "prefix is empty"),
        (SelectBest(["text", "also"]), "third transcript"),
        (SelectBest(["text", "also"], score_keys=["score"]), "one column for each"),
        (SelectBest(["text", "also"], score_keys=["score", "score"], order="best"), "highest"),
    ],
)
def test_wrong_setting_is_a_mistake_in_the_plan(stage: Any, message: str) -> None:
    reader = ReadRecords([{"audio_filepath": "a.wav", "text": "a", "also": "a", "score": 1.0}])
    with pytest.raises(PlanError, match=message):
        Pipeline("p", [reader, stage]).plan(host=HOST)


def test_second_recogniser_needs_columns_of_its_own() -> None:
    stages = [ReadRecords([{"audio_filepath": "a.wav"}]), StubAsrStage(), StubAsrStage(timestamps=True)]
    with pytest.raises(PlanError, match=r"would overwrite column 'pred_text', which .* `prefix:`"):
        Pipeline("p", stages).plan(host=HOST)
    stages = [stages[0], StubAsrStage(prefix="one_"), StubAsrStage(prefix="two_", timestamps=True)]
    stages.append(Agreement(["one_pred_text", "two_pred_text"]))
    columns = Pipeline("p", stages).plan(host=HOST).stages[-1].stage.reads()
    assert set(columns) == {"one_pred_text", "two_pred_text"}


def test_column_of_the_input_may_be_replaced() -> None:
    stages = [ReadRecords([{"audio_filepath": "a.wav", "pred_text": "old"}]), StubAsrStage()]
    assert Pipeline("p", stages).plan(host=HOST).stages
