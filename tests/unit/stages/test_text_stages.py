"""Hallucinations, normalised copies, rates and alphabets of texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from curate import AudioBatch, Pipeline, ProcessingStage
from curate.errors import PlanError
from curate.records import Record
from curate.stages import Charset, Hallucination, NormaliseText, QualityFilter, ReadRecords, TextRates
from curate.testing import StageContract

SORRY = "I'm sorry, I'm sorry, I'm sorry, I'm sorry, I'm sorry."
CHINESE = "今天的天气非常好我们一起去公园散步然后在湖边吃午饭聊了很多"


def done(stage: ProcessingStage, *records: Record) -> AudioBatch:
    stage.setup()
    result = stage.process(AudioBatch(list(records)))
    assert isinstance(result, AudioBatch)
    return result


def reasons(**record: Any) -> list[str]:
    [scored] = done(Hallucination(), record).data
    return scored["hallucination_reasons"]


class TestHallucination(StageContract):
    def stage(self) -> ProcessingStage:
        return Hallucination()

    def records(self, folder: Path) -> Sequence[dict[str, Any]]:
        return [
            {"pred_text": SORRY, "duration": 10.0, "lang": "en"},
            {"pred_text": "thank you", "duration": 1.0, "speech_s": 0.0},
            {"pred_text": "hello", "no_speech_prob": 0.1, "avg_logprob": -0.2, "compression_ratio": 1.1},
            {"pred_text": None},
        ]


class TestNormaliseText(StageContract):
    def stage(self) -> ProcessingStage:
        return NormaliseText(normaliser="auto")

    def records(self, folder: Path) -> Sequence[dict[str, Any]]:
        return [{"text": "“Hi” …", "lang": "en"}, {"text": None}, {"text": "STRASSE"}]


class TestTextRates(StageContract):
    def stage(self) -> ProcessingStage:
        return TextRates()

    def records(self, folder: Path) -> Sequence[dict[str, Any]]:
        return [{"text": "one two", "duration": 2.0}, {"text": CHINESE, "duration": 5}, {"text": None, "duration": 1.0}]


class TestCharset(StageContract):
    def stage(self) -> ProcessingStage:
        return Charset()

    def records(self, folder: Path) -> Sequence[dict[str, Any]]:
        return [{"text": "Straße", "lang": "de"}, {"text": "hello"}, {"text": None, "lang": "de"}]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"pred_text": "You", "duration": 10.0}, {"rate_low", "phrase"}),
        ({"pred_text": "Thank you.", "duration": 5.0, "speech_s": 0.0}, {"no_speech", "phrase"}),
        ({"pred_text": "Thank you.", "duration": 10.0}, {"phrase"}),
        (
            {"pred_text": "You", "duration": 2.0, "no_speech_prob": 0.74, "avg_logprob": -0.76},
            {"whisper_no_speech", "phrase"},
        ),
        ({"pred_text": SORRY, "duration": 10.0}, {"repetition", "cycle"}),
        ({"pred_text": SORRY}, {"repetition", "cycle"}),
        ({"pred_text": "感谢观看感谢观看感谢观看", "duration": 6.0}, {"repetition"}),
        ({"pred_text": "ha " * 200, "duration": 30.0}, {"repetition", "cycle", "compression"}),
        ({"pred_text": "word " * 3 + "x" * 200, "duration": 1.0}, {"rate_high", "compression"}),
        ({"pred_text": "good morning to all", "avg_logprob": -1.3}, {"whisper_logprob"}),
        ({"pred_text": "good morning to all", "compression_ratio": 3.0}, {"whisper_compression"}),
    ],
)
def test_hallucination_has_its_reasons(record: Record, expected: set[str]) -> None:
    assert set(reasons(**record)) == expected


@pytest.mark.parametrize(
    "record",
    [
        {"pred_text": "yes yes yes", "duration": 1.5},
        {"pred_text": "Thank you for coming, the budget meeting starts at nine", "duration": 3.5},
        {"pred_text": "I am antidisestablishmentarian", "duration": 2.0},
        {"pred_text": "a internationalization", "duration": 1.5},
        {"pred_text": CHINESE, "duration": 7.0},
        {"pred_text": "สวัสดีครับวันนี้อากาศดีมากเราไปเที่ยวกันเถอะ", "duration": 4.0},
        {"pred_text": "Thank you.", "duration": 1.0, "speech_s": 0.8},
        {"pred_text": "Thank you.", "no_speech_prob": 0.7, "avg_logprob": -0.2},
        {"pred_text": "", "duration": 10.0, "speech_s": 0.0, "no_speech_prob": 0.9},
        {"pred_text": None, "duration": 10.0},
        {"pred_text": "the more the better the merrier", "duration": 2.0},
    ],
)
def test_speech_and_empty_text_have_no_reasons(record: Record) -> None:
    assert reasons(**record) == []


def test_hallucination_scores_are_columns() -> None:
    [record] = done(Hallucination(), {"pred_text": SORRY, "duration": 10.0}).data
    assert (record["hallucination_ngram_share"], record["hallucination_cycle"]) == (1.0, 10)
    assert record["hallucination_compression"] == pytest.approx(2.35, abs=0.01)
    assert (record["hallucination_chars_per_s"], record["hallucination_no_speech"]) == (4.0, None)


def test_phrases_are_those_of_the_language() -> None:
    rows = [{"pred_text": "Vielen Dank!", "duration": 10.0, "lang": lang} for lang in ("de", "deu_Latn", "en", None)]
    scored = done(Hallucination(), *rows)
    assert [record["hallucination_phrase"] for record in scored.data] == [True, True, False, True]


def test_presets_keep_words_case_and_punctuation() -> None:
    [record] = done(NormaliseText(), {"text": "“Don’t”\u200b he  said…\u00ad wait—no ♪"}).data
    assert record["text_norm"] == '"Don\'t" he said... wait - no ♪'
    [record] = done(NormaliseText(presets=["music", "brackets"]), {"text": "♪ la ♪ [noise] (quietly) yes"}).data
    assert record["text_norm"] == "la yes"


def test_text_is_overwritten_only_where_named() -> None:
    stage = NormaliseText(output_key="text", normaliser="auto")
    [record] = done(stage, {"text": "Twenty THREE!", "lang": "en"}).data
    assert record == {"text": "23", "lang": "en"}
    [record] = done(NormaliseText(), {"text": "Hello"}).data
    assert record == {"text": "Hello", "text_norm": "Hello"}


def test_rule_file_is_applied_in_order(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "presets: [quotes]\n"
        "rules:\n"
        "  - {replace: 'C++', with: 'c plus plus'}\n"
        "  - {pattern: '\\bSt\\.(?= ([A-Z]))', with: 'Saint'}\n"
        "tests:\n"
        "  - {text: 'C++ of St. Ives', expected: 'c plus plus of Saint Ives'}\n"
    )
    [record] = done(NormaliseText(rules=str(rules)), {"text": "St. Paul’s C++"}).data
    assert record["text_norm"] == "Saint Paul's c plus plus"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("rules: [{pattern: '(', with: x}]", "pattern"),
        ("rules: [{pattern: a, with: '\\2'}]", "group"),
        ("rules: [{pattern: a}]", "'pattern' and 'with'"),
        ("rules: a", "must be a list"),
        ("ruels: []", "unknown key 'ruels'"),
        ("presets: [quots]", "did you mean 'quotes'"),
        ("tests: [{text: a, expected: b}]", "gives 'a', expected 'b'"),
        ("- a", "must hold a mapping"),
        ("a: [", "not YAML"),
    ],
)
def test_wrong_rule_file_is_a_mistake_in_the_plan(tmp_path: Path, content: str, message: str) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(content)
    with pytest.raises(PlanError, match=message):
        Pipeline("p", [ReadRecords([{"text": "a"}]), NormaliseText(rules=str(rules))]).plan()


def test_text_rates_count_letters_and_words() -> None:
    rows = [{"text": "[noise] One, two!", "duration": 2.0}, {"text": CHINESE, "duration": 10.0}]
    rated = done(TextRates(), *rows).data
    assert [(row["chars_per_s"], row["words_per_s"]) for row in rated] == [(3.0, 1.0), (len(CHINESE) / 10, None)]


@pytest.mark.parametrize(
    ("duration", "code"), [(None, "missing_column"), (0, "bad_value"), (-1.0, "bad_value"), ("2", "bad_value")]
)
def test_text_rates_need_a_duration(duration: Any, code: str) -> None:
    [failed] = done(TextRates(), {"text": "one", "duration": duration}).failed
    assert failed.error.code == code


@pytest.mark.parametrize(
    ("text", "lang", "share", "unknown"),
    [
        ("Straße, 12!", "de", 1.0, ""),
        ("мама мыла раму", "uk", 0.9167, "ы"),
        ("привет", "de", 0.0, "веиprt".replace("prt", "прт")),
        ("İstanbul ılık", "tr", 1.0, ""),
        ("cafe\u0301", "fr-CA", 1.0, ""),
        ("की कलम", "hi", 1.0, ""),
        ("漢字かな", "ja", 1.0, ""),
        ("abc", None, None, None),
        ("abc", "xx", None, None),
        ("123", "de", None, None),
    ],
)
def test_charset_is_the_share_of_letters_in_the_alphabet(
    text: str, lang: str | None, share: float | None, unknown: str | None
) -> None:
    [record] = done(Charset(), {"text": text, "lang": lang}).data
    assert (record["charset_share"], record["charset_unknown"]) == (share, unknown)
    assert record["charset_outside"] == (None if share is None else pytest.approx(1 - share, abs=1e-4))


def test_charset_takes_the_language_of_records_without_one() -> None:
    [record] = done(Charset(lang="rus"), {"text": "привет"}).data
    assert record["charset_share"] == 1.0
    with pytest.raises(PlanError, match="alphabet"):
        Charset(lang="xx").check()


def test_hallucinations_are_left_out_of_a_run_and_pauses_kept(tmp_path: Path) -> None:
    speech = [
        {"pred_text": "yes yes yes", "duration": 1.5},
        {"pred_text": "Thank you for coming, the budget meeting starts at nine", "duration": 3.5},
        {"pred_text": "I am antidisestablishmentarian", "duration": 2.0},
        {"pred_text": CHINESE, "duration": 7.0},
        {"pred_text": "", "duration": 10.0, "speech_s": 0.0},
    ]
    hallucinated = [
        {"pred_text": "You", "duration": 10.0},
        {"pred_text": "Thank you.", "duration": 5.0, "speech_s": 0.0},
        {"pred_text": SORRY, "duration": 10.0},
    ]
    stages = [
        ReadRecords([*speech, *hallucinated]),
        Hallucination(),
        QualityFilter("len(hallucination_reasons) == 0"),
    ]
    result = Pipeline("p", stages).run(executor="multiprocessing", run_dir=tmp_path)
    assert [record["pred_text"] for record in result.records()] == [record["pred_text"] for record in speech]
    assert result.summary["filtered"] == len(hallucinated)
