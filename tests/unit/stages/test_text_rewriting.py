"""`inverse_normalise` and `punctuate`: engines, and the guard that falls back to the text as it was."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from curate import AudioBatch, Pipeline, ProcessingStage
from curate.errors import PlanError
from curate.records import Record
from curate.stages import InverseNormalise, Merge, NormaliseText, Punctuate, ReadRecords, WordErrorRate
from curate.testing import StageContract

needs_text2num = pytest.mark.skipif(importlib.util.find_spec("text_to_num") is None, reason="needs the extra `itn`")
needs_wetext = pytest.mark.skipif(importlib.util.find_spec("wetext") is None, reason="needs the extra `itn`")


def done(stage: ProcessingStage, *records: Record) -> list[Record]:
    stage.check()
    stage.setup()
    result = stage.process(AudioBatch(list(records)))
    assert isinstance(result, AudioBatch) and not result.failed
    return result.data


def written(text: str, lang: str, engine: str) -> tuple[str, str | None]:
    [record] = done(InverseNormalise(engine=engine), {"text": text, "lang": lang})
    return record["text_itn"], record["text_itn_fallback"]


# Engines for tests: functions of this module, by reference.


def shout(text: str) -> str:
    return text.upper()


def invent(text: str) -> str:
    return f"{text} and something that was never said"


def vanish(text: str) -> str:
    return "  "


def full_stop(texts: list[str], langs: list[str | None]) -> list[str | None]:
    return [f"{text.capitalize()}." if lang == "en" else None for text, lang in zip(texts, langs, strict=True)]


def digits(text: str) -> str:
    return text.replace("twenty one", "21")


def nonsense(texts: list[str]) -> list[str]:
    return texts[1:]


def with_model(text: str, model: str) -> str:
    return f"{text}{model}"


def nothing() -> None:
    return None


@needs_text2num
class TestInverseNormalise(StageContract):
    def stage(self) -> ProcessingStage:
        return InverseNormalise()

    def records(self, folder: Path) -> Sequence[Record]:
        return [
            {"text": "twenty one", "lang": "en"},
            {"text": "двадцать", "lang": "ru"},
            {"text": None},
            {"text": 3},
            {"text": ""},
        ]


class TestPunctuate(StageContract):
    def stage(self) -> ProcessingStage:
        return Punctuate(engine=f"{__name__}:full_stop")

    def records(self, folder: Path) -> Sequence[Record]:
        return [{"text": "hello there", "lang": "en"}, {"text": "hallo", "lang": "de"}, {"text": None}, {"text": 3}]


@needs_text2num
@pytest.mark.parametrize(
    ("lang", "text", "expected"),
    [
        ("en", "it costs twenty one dollars", "it costs 21 dollars"),
        ("en-GB", "on the twenty first of may", "on the 21st of may"),
        ("en", "two point five million people", "2500000 people"),
        ("en", "in nineteen ninety five", "in 1995"),
        ("en", "no one wants one more", "no one wants one more"),
        ("deu", "das kostet einundzwanzig euro", "das kostet 21 euro"),
        ("fr", "cela coûte vingt et un euros", "cela coûte 21 euros"),
        ("es", "son las tres y cuarenta y cinco", "son las 3 y 45"),
        ("it", "costa ventuno euro", "costa 21 euro"),
        ("pt", "são vinte e um euros", "são 21 euros"),
        ("nl", "het kost eenentwintig euro", "het kost 21 euro"),
    ],
)
def test_text2num_writes_number_words_as_digits(lang: str, text: str, expected: str) -> None:
    assert written(text, lang, "text2num") == (expected, None)


@needs_wetext
@pytest.mark.parametrize(
    ("lang", "text", "expected"),
    [
        ("en", "it costs twenty one dollars and fifty cents", "it costs $21.50"),
        ("en", "in nineteen ninety five two point five million came", "in 1995 2.5 million came"),
        ("en", 'he said "no" at noon', 'he said "no" at noon'),
        ("en", '"twenty one" \\ he said  ', '"21" \\ he said  '),
        ("en", "<unk> [noise] { } ~ \ud800 one", "<unk> [noise] { } ~ ? one"),
        ("en", "", ""),
        ("zh", "一共一百二十三个人", "一共123个人"),
        ("zh", "一个人说了三句话", "一个人说了三句话"),
        ("ja", "百二十三人が来ました", "123人が来ました"),
    ],
)
def test_wetext_writes_spoken_forms(lang: str, text: str, expected: str) -> None:
    assert written(text, lang, "wetext") == (expected, None)


@needs_text2num
@pytest.mark.parametrize("lang", ["ru", "zh", None])
def test_language_that_the_engine_does_not_know_keeps_the_text(lang: str | None) -> None:
    [record] = done(InverseNormalise(), {"text": "twenty one", "lang": lang})
    assert (record["text_itn"], record["text_itn_fallback"]) == ("twenty one", "language")


@needs_text2num
def test_setting_is_the_language_of_records_that_lack_it() -> None:
    rows = done(InverseNormalise(lang="en"), {"text": "twenty one"}, {"text": "einundzwanzig", "lang": "de"})
    assert [row["text_itn"] for row in rows] == ["21", "21"]


@pytest.mark.parametrize(
    ("engine", "text", "reason"),
    [
        ("shout", "hello there", "upper_case"),
        ("shout", "HELLO THERE", None),
        ("invent", "hello there", "changed"),
        ("vanish", "hello there", "empty"),
        ("vanish", " ", None),
    ],
)
@pytest.mark.parametrize("stage", [InverseNormalise, Punctuate])
def test_guard_falls_back_to_the_text(
    stage: Callable[..., ProcessingStage], engine: str, text: str, reason: str
) -> None:
    [record] = done(stage(engine=f"{__name__}:{engine}"), {"text": text})
    values = [record[name] for name in record if name != "text"]
    assert values[1] == reason
    if reason is not None:
        assert values[0] == text


def test_numbers_are_no_change_for_one_stage_and_one_for_the_other() -> None:
    record = {"text": "i was twenty one"}
    [itn] = done(InverseNormalise(engine=f"{__name__}:digits"), {**record})
    [pnc] = done(Punctuate(engine=f"{__name__}:digits"), {**record})
    assert (itn["text_itn_fallback"], pnc["text_pnc_fallback"]) == (None, "changed")


def test_case_and_punctuation_are_no_change() -> None:
    [record] = done(Punctuate(engine=f"{__name__}:full_stop"), {"text": "don’t do [noise] it", "lang": "en"})
    assert (record["text_pnc"], record["text_pnc_fallback"]) == ("Don’t do [noise] it.", None)


def test_engine_of_many_texts_gets_those_of_a_batch_size_at_a_time() -> None:
    stage = Punctuate(engine=f"{__name__}:full_stop").with_(batch_size=2)
    rows = done(stage, *({"text": f"text {number}", "lang": "en"} for number in range(5)), {"text": None})
    assert [row["text_pnc"] for row in rows] == [*(f"Text {number}." for number in range(5)), None]


def test_engine_with_too_few_answers_is_named() -> None:
    stage = Punctuate(engine=f"{__name__}:nonsense")
    result = Pipeline("p", [ReadRecords([{"text": "a"}]), stage]).run()
    [failed] = result.quarantined
    assert failed.code == "bad_value" and "nonsense" in failed.message


def test_overwritten_text_keeps_every_record(tmp_path: Path) -> None:
    rows = [{"text": "i was twenty one"}, {"text": "hello"}]
    stages = [
        ReadRecords(rows),
        InverseNormalise(engine=f"{__name__}:digits", output_key="text"),
        Merge("out.jsonl"),
    ]
    Pipeline("p", stages).run(executor="multiprocessing", run_dir=tmp_path)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["i was 21", "hello"]


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Punctuate(engine="tranformers"), "did you mean 'transformers'"),
        (Punctuate(engine=f"{__name__}:full_stop", model="m"), "takes no model"),
        (Punctuate(engine=f"{__name__}:with_model"), "set model"),
        (Punctuate(engine=f"{__name__}:nothing"), "must take text or texts"),
        (Punctuate(engine=f"{__name__}:full_stop", max_cer=2), "between 0 and 1"),
        (Punctuate(engine=f"{__name__}:full_stop", lang="english"), "not the tag of a language"),
        (Punctuate(), "set model"),
        (WordErrorRate(normaliser=f"{__name__}:full_stop"), "engine of `punctuate`"),
        (NormaliseText(normaliser=f"{__name__}:full_stop"), "engine of `punctuate`"),
    ],
)
def test_wrong_engine_is_a_mistake_in_the_plan(stage: ProcessingStage, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Pipeline("p", [ReadRecords([{"text": "a", "pred_text": "a"}]), stage]).plan()


def test_function_of_one_text_gets_the_model() -> None:
    [record] = done(Punctuate(engine=f"{__name__}:with_model", model="."), {"text": "hello"})
    assert record["text_pnc"] == "hello."
