"""Word and character error rates of records, and values that are not strings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline
from curate.errors import PlanError
from curate.monitoring import add_measures
from curate.records import AudioBatch, Record
from curate.stages import CharacterErrorRate, Merge, Partition, QualityFilter, ReadRecords, WordErrorRate
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
    assert (record["text"], record["pred_text"], record["wer"]) == ("One,  TWO!", "one two", 0.0)


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
        (pair(None, "a"), "missing_column"),
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
    assert set(stage.reads()) == {"ref", "hyp"}
    assert stage.writes() == (
        "score",
        "score_errors",
        "score_ref_words",
        "score_ins",
        "score_del",
        "score_sub",
        "score_max_ins_run",
        "score_max_del_run",
    )
    [record] = measured(stage, {"ref": "a", "hyp": "b"}).data
    assert record["score"] == 1.0


def test_empty_and_null_hypotheses_have_decided_rates() -> None:
    rows = [pair("", ""), pair("...", "[noise]"), pair("", None), pair("one two", None), pair("", "thank you")]
    done = measured(WordErrorRate(), *rows)
    assert not done.failed
    assert [record["wer"] for record in done.data] == [0.0, 0.0, 0.0, 1.0, 2.0]
    assert [record["wer_errors"] for record in done.data] == [0, 0, 0, 2, 2]


@pytest.mark.parametrize(("setting", "expected"), [("empty", 1.0), ("skip", None)])
def test_null_reference_is_handled_as_set(setting: str, expected: float | None) -> None:
    stage = WordErrorRate(null_reference=setting, case_and_punctuation=True)
    [record] = measured(stage, pair(None, "hello")).data
    assert record["wer"] == expected
    assert set(stage.writes()) <= set(record)


def test_counts_stand_beside_the_rate() -> None:
    [record] = measured(WordErrorRate(), pair("a b c d e f g h i j", "x y z a b c d e f g")).data
    counts = {name.removeprefix("wer_"): value for name, value in record.items() if name.startswith("wer_")}
    assert counts == {
        "errors": 6,
        "ref_words": 10,
        "ins": 3,
        "del": 3,
        "sub": 0,
        "max_ins_run": 3,
        "max_del_run": 3,
    }
    [record] = measured(CharacterErrorRate(), pair("the quick brown fox jumps", "quick brown fox jumps")).data
    assert (record["cer_errors"], record["cer_ref_chars"], record["end_cer"]) == (4, 25, 0.0)
    assert record["start_cer"] > 0.5


def test_short_reference_has_counts_and_no_rate() -> None:
    done = measured(WordErrorRate(min_words=3), pair("one two", "one too"), pair("one two three", "one two"))
    assert [record["wer"] for record in done.data] == [None, 0.3333]
    assert [record["wer_errors"] for record in done.data] == [1, 1]


def test_language_of_the_record_decides_the_rules() -> None:
    rows = [pair("twenty three", "23") | {"lang": lang} for lang in ("en", "en-US", "eng", "de", None, 7, "eng_Latn")]
    done = measured(WordErrorRate(), *rows)
    assert [record["wer"] for record in done.data] == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0]


def test_case_and_punctuation_are_rated_apart_from_words() -> None:
    stage = WordErrorRate(case_and_punctuation=True)
    rows = [
        pair("Hello, world. Yes?", "Hello, world. Yes?"),
        pair("Hello, world. Yes?", "hello world yes"),
        pair("Hello, world.", "Hello world."),
        pair("", ""),
    ]
    done = measured(stage, *rows)
    assert [record["wer"] for record in done.data] == [0.0] * 4
    assert [record["case_error_rate"] for record in done.data] == [0.0, 0.6667, 0.0, 0.0]
    assert [record["punctuation_error_rate"] for record in done.data] == [0.0, 1.0, 0.5, 0.0]


def test_corpus_rates_are_summed_by_a_column_over_workers() -> None:
    rows = [
        pair("a b c d", "a b c x") | {"lang": "de"},
        pair("a", "b") | {"lang": "fr"},
        pair("", "x") | {"lang": "fr"},
    ]
    parts: list[Any] = []
    stage = WordErrorRate(by="lang")
    for row in rows:
        measured(stage, row)
        parts.append(stage.take_measures())
    assert stage.take_measures() == {}
    assert WordErrorRate(by="lang").describe_measures(add_measures(*parts)) == {
        "corpus_wer": 0.6,
        "wer_errors": 3,
        "wer_reference_length": 5,
        "corpus_wer_by_lang": {"de": 0.25, "fr": 2.0},
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": "letter"}, "word, character, auto"),
        ({"null_reference": "drop"}, "fail, empty, skip"),
        ({"min_words": -1}, "at least 0"),
        ({"normaliser": "missing.yaml"}, "cannot be read"),
        ({"normaliser": "no.such.module:function"}, "the module 'no' of its target cannot be found"),
    ],
)
def test_wrong_settings_are_mistakes_in_the_plan(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Pipeline("p", [ReadRecords([pair("a", "b")]), WordErrorRate(**settings)]).plan()


def test_normaliser_can_be_a_reference_or_a_rule_file(tmp_path: Path) -> None:
    [record] = measured(WordErrorRate(normaliser="string:capwords"), pair("a b", "A B")).data
    assert record["wer"] == 0.0
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules: [{replace: colour, with: color}]\ntests: [{text: colour, expected: color}]\n")
    stage = WordErrorRate(normaliser=str(rules))
    assert measured(stage, pair("a colour", "a color")).data[0]["wer"] == 0.0
    before = stage.fingerprint()
    rules.write_text("rules: [{replace: colour, with: col}]\n")
    assert WordErrorRate(normaliser=str(rules)).fingerprint() != before
    rules.write_text("rules: [{replace: colour, with: color}]\ntests: [{text: colour, expected: colour}]\n")
    with pytest.raises(PlanError, match="expected 'colour'"):
        Pipeline("p", [ReadRecords([pair("a", "b")]), stage]).plan()


def test_run_with_correct_pauses_keeps_them(tmp_path: Path) -> None:
    rows = [pair("", "") if n % 20 == 0 else pair("one two three", "one two three") for n in range(6000)]
    rows[40] = pair("", "thank you for watching")
    kept = tmp_path / "kept.jsonl"
    stages = [ReadRecords(rows), Partition(), WordErrorRate(), QualityFilter("wer <= 0.3"), Merge(str(kept))]
    result = Pipeline("pauses", stages).run(run_dir=tmp_path / "run")
    assert (result.summary["kept"], result.summary["quarantined"]) == (5999, 0)
    pauses = [row for row in map(json.loads, kept.read_text().splitlines()) if row["text"] == ""]
    assert len(pauses) == 299
    assert {row["wer_errors"] for row in pauses} == {0}
