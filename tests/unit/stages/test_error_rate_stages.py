"""Word and character error rates of records, and values that are not strings."""

from __future__ import annotations

from typing import Any

import pytest

from curate import Pipeline
from curate.errors import PlanError
from curate.records import AudioBatch, Record
from curate.stages import CharacterErrorRate, ReadRecords, WordErrorRate
from curate.stages.text.error_rates import _ErrorRateStage


def measured(stage: _ErrorRateStage, *records: Record) -> AudioBatch:
    stage.setup()
    result = stage.process(AudioBatch(list(records)))
    assert isinstance(result, AudioBatch)
    return result


def pair(text: Any, pred_text: Any) -> Record:
    return {"text": text, "pred_text": pred_text}


def test_rates_are_errors_over_the_reference() -> None:
    done = measured(WordErrorRate(), pair("one two three", "one two"), pair("one", "one and more"), pair("a b", "a b"))
    assert [record["wer"] for record in done.data] == [0.3333, 2.0, 0.0]
    done = measured(CharacterErrorRate(), pair("abcd", "abxd"), pair("a b", "a  b"))
    assert [record["cer"] for record in done.data] == [0.25, 0.0]


def test_the_texts_are_left_alone() -> None:
    [record] = measured(WordErrorRate(), pair("One,  TWO!", "one two")).data
    assert record == {"text": "One,  TWO!", "pred_text": "one two", "wer": 0.0}


@pytest.mark.parametrize(("normaliser", "expected"), [("none", 1.0), ("whisper-basic", 0.5), ("whisper-english", 0.0)])
def test_the_normaliser_decides_what_is_equal(normaliser: str, expected: float) -> None:
    [record] = measured(WordErrorRate(normaliser=normaliser), pair("Colour, Two", "color two")).data
    assert record["wer"] == expected


def test_an_unknown_normaliser_is_a_mistake_in_the_plan() -> None:
    with pytest.raises(PlanError, match="whisper-english"):
        Pipeline("p", [ReadRecords([pair("a", "b")]), WordErrorRate(normaliser="whisper-englsih")]).plan()


@pytest.mark.parametrize("stage", [WordErrorRate(), CharacterErrorRate()], ids=["wer", "cer"])
@pytest.mark.parametrize(
    ("record", "code"),
    [
        (pair("", "a"), "empty_text"),
        (pair(" ?! ", "a"), "empty_text"),
        (pair(None, "a"), "missing_column"),
        (pair("a", None), "missing_column"),
        ({"text": "a"}, "missing_column"),
        (pair(3, "a"), "bad_value"),
        (pair("a", ["a"]), "bad_value"),
    ],
)
def test_what_cannot_be_compared_fails_alone(stage: _ErrorRateStage, record: Record, code: str) -> None:
    done = measured(stage, pair("a", "b"), record, pair("a", "a"))
    assert len(done.data) == 2
    [failed] = done.failed
    assert (failed.record, failed.error.code) == (record, code)


def test_nothing_heard_is_all_wrong() -> None:
    [record] = measured(WordErrorRate(), pair("one two", "")).data
    assert record["wer"] == 1.0


def test_columns_can_be_named() -> None:
    stage = WordErrorRate(text_key="ref", pred_text_key="hyp", wer_key="score")
    assert (set(stage.reads()), set(stage.writes())) == ({"ref", "hyp"}, {"score"})
    [record] = measured(stage, {"ref": "a", "hyp": "b"}).data
    assert record["score"] == 1.0
