"""The stage `align` with a model of tones: word times, scores, what text and audio lack, and mistakes in the plan."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from curate import Pipeline
from curate.errors import PlanError, RecordError
from curate.models import Clip
from curate.plugin import PluginHost
from curate.records import AudioBatch, Record
from curate.stages import Merge, ReadRecords, SplitSentences
from curate.testing import AudioModelContract, StageContract
from tests.unit.align.tone_model import RATE_HZ, ToneAlign, ToneModel, alignment_model, say

SENTENCES = ["abc de fg.", "hij ab cdef gh.", "ij ji hg.", "fed cba bad.", "cab fig hid."]


def sounds(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter in "abcdefghij ")


def write(path: Path, samples: Any) -> Record:
    soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
    return {"audio_filepath": str(path), "duration": len(samples) / RATE_HZ}


def aligned(text: str | None, samples: Any, **settings: Any) -> Mapping[str, Any]:
    model = alignment_model(**settings)
    model.setup()
    rows: Any = model.infer([Clip(samples, RATE_HZ, {"text": text})])
    return rows()[0]


class TestAlign(StageContract):
    def stage(self) -> ToneAlign:
        return ToneAlign()

    def records(self, folder: Path) -> Sequence[Record]:
        (folder / "broken.wav").write_bytes(b"RIFF" + bytes(60))
        return [
            {**write(folder / "a.wav", say("abc de fg")), "text": "abc de fg"},
            {**write(folder / "b.wav", say("hij ab", seed=1)), "text": "hij cd"},
            {**write(folder / "c.wav", np.zeros(RATE_HZ, np.float32)), "text": "abc"},
            {**write(folder / "d.wav", say("abc")), "text": None},
            {**write(folder / "e.wav", say("abc")), "text": 3},
            {"audio_filepath": str(folder / "broken.wav"), "duration": 1.0, "text": "abc"},
        ]


class TestAlignmentModel(AudioModelContract):
    def model(self) -> Any:
        return alignment_model()

    def records(self) -> Sequence[Mapping[str, Any]]:
        return ({"text": "abc de"}, {"text": "hij"})

    def waveforms(self, rate_hz: int) -> Sequence[Any]:
        return [say("abc de"), say("hij", seed=1), say("ab cd", seed=2), np.zeros(rate_hz, np.float32)]


def test_words_have_their_times_and_scores() -> None:
    row = aligned("Abc, de — fg!", say("abc de fg"))
    assert [word["word"] for word in row["words"]] == ["Abc,", "de", "—", "fg!"]
    starts = [row["words"][place]["start"] for place in (0, 1, 3)]
    ends = [row["words"][place]["end"] for place in (0, 1, 3)]
    assert starts == pytest.approx([0.2, 0.6, 0.92], abs=0.021)
    assert ends == pytest.approx([0.44, 0.76, 1.08], abs=0.041)  # the faint tone behind a word may count as its end
    assert row["words"][2]["score"] is None
    assert min(row["words"][place]["score"] for place in (0, 1, 3)) > 0.95
    assert row["align_score"] == pytest.approx(1, abs=0.02)
    assert row["align_missing"] == row["align_uncovered"] == []


def test_word_that_the_audio_lacks_is_missing_and_costs_its_share() -> None:
    row = aligned("abc de hij fg", say("abc de fg"))
    assert [(one["text"], one["first_word"]) for one in row["align_missing"]] == [("hij", 2)]
    absent = row["words"][2]
    assert absent["score"] == 0.0
    assert absent["start"] == absent["end"] == row["words"][1]["end"]
    assert row["align_score"] == pytest.approx(0.75, abs=0.02)


def test_audio_that_the_text_lacks_is_named_by_the_model() -> None:
    row = aligned("abc fg", say("abc de hij fg"))
    [uncovered] = row["align_uncovered"]
    assert uncovered["text"] == "de hij"
    assert (uncovered["start"], uncovered["end"]) == (pytest.approx(0.6, abs=0.041), pytest.approx(1.16, abs=0.041))
    assert uncovered["words"] == 2.0
    assert row["align_score"] == pytest.approx(0.5, abs=0.02)


def test_other_text_scores_near_zero() -> None:
    assert aligned("jih gfe dc", say("abc de fg"))["align_score"] < 0.2


def test_digits_take_the_sound_between_their_neighbours() -> None:
    row = aligned("abc 1998 fg", say("abc hij fg"))
    assert row["words"][1]["score"] is None
    assert row["words"][1]["start"] == pytest.approx(0.6, abs=0.05)
    assert row["words"][1]["end"] == pytest.approx(0.84, abs=0.05)
    assert row["align_score"] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("text", "samples", "score", "missing"),
    [
        ("", say("abc"), None, 0),
        (None, say("abc"), None, 0),
        ("…", say("abc"), None, 0),
        ("abc", np.zeros(RATE_HZ, np.float32), 0.0, 1),
        ("abc de fg hij", np.zeros(10, np.float32), 0.0, 1),
    ],
)
def test_nothing_to_align_has_an_answer(text: str | None, samples: Any, score: float | None, missing: int) -> None:
    row = aligned(text, samples)
    assert (row["align_score"], len(row["align_missing"])) == (score, missing)


def test_record_without_text_is_the_one_that_fails() -> None:
    with pytest.raises(RecordError, match="'text'"):
        alignment_model().infer([Clip(say("abc"), RATE_HZ, {"other": 1})])


def test_windows_give_the_times_of_the_whole() -> None:
    text = " ".join(sounds(sentence) for sentence in SENTENCES * 3)
    samples = say(text)
    model = alignment_model(window_s=2.0, context_s=0.4)
    model.setup()
    rows: Any = model.infer([Clip(samples, RATE_HZ, {"text": text})])
    [row] = rows()
    assert isinstance(model.model, ToneModel)
    assert model.model.longest_s <= 2.0 < len(samples) / RATE_HZ
    assert row == aligned(text, samples, window_s=1000.0)
    assert row["align_score"] > 0.98


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    """Return the run directory and the record of a chapter; the audio lacks one of the sentences of its text."""
    folder = tmp_path_factory.mktemp("book")
    samples = say(" ".join(sounds(sentence) for sentence in SENTENCES[:2] + SENTENCES[3:]))
    record = {**write(folder / "a.wav", samples), "text": " ".join(SENTENCES[:4]), "chapter": 1}
    return folder / "run", record


def test_chapter_becomes_scored_utterances(book: tuple[Path, Record]) -> None:
    run_dir, record = book
    stages = [
        ReadRecords([record]),
        ToneAlign(),
        Merge("aligned.jsonl"),
        SplitSentences(min_s=0.5, align_prefix="align"),
    ]
    result = Pipeline("chapter", stages).run(run_dir=run_dir, host=PluginHost(environment={"CURATE_PLUGINS": ""}))
    children = list(result.records())
    assert [child["text"] for child in children] == SENTENCES[:4]
    scores = [child["align_score"] for child in children]
    assert scores[2] == 0.0
    assert min(scores[0], scores[1], scores[3]) > 0.95
    assert all("align_missing" not in child and "align_uncovered" not in child for child in children)


def test_child_counts_only_the_uncovered_audio_within_it() -> None:
    words = [
        {"word": word, "start": float(at), "end": at + 0.5, "score": 1.0} for at, word in enumerate(("a.", "b", "c."))
    ]
    uncovered = [{"start": 0.6, "end": 0.9, "words": 3.0}, {"start": 1.6, "end": 1.9, "words": 2.0}]
    record = {"duration": 3.0, "words": words, "align_score": 0.6, "align_missing": [], "align_uncovered": uncovered}
    stage = SplitSentences(min_s=0.0, align_prefix="align")
    children = stage.process(AudioBatch([record])).data
    assert [child["align_score"] for child in children] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recogniser": "headless"}, "gives no CTC log-probabilities"),
        ({"recogniser": "transducer"}, "has only rnnt"),
        ({"window_s": 4.0}, "window_s=4.0"),
        ({"prefix": ""}, "prefix is empty"),
        ({"options": {"beam": 3}}, "beam"),
    ],
)
def test_wrong_setting_is_a_mistake_in_the_plan(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Pipeline("p", [ReadRecords([{"audio_filepath": "a.wav", "text": "a"}]), ToneAlign(**settings)]).plan(
            host=PluginHost(environment={"CURATE_PLUGINS": ""})
        )


def test_second_alignment_needs_columns_of_its_own() -> None:
    stages = [ReadRecords([{"audio_filepath": "a.wav", "text": "a", "words": []}]), ToneAlign(), ToneAlign()]
    host = PluginHost(environment={"CURATE_PLUGINS": ""})
    with pytest.raises(PlanError, match="would overwrite column 'align_missing', which 'tone_align' has written"):
        Pipeline("p", stages).plan(host=host)
    stages[-1] = ToneAlign(prefix="other", words_key="other_words")
    assert {"align_score", "other_score"} <= set(Pipeline("p", stages).plan(host=host).stages[-1].columns or ())


def test_retrained_model_changes_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = ToneAlign().resolve(PluginHost(environment={"CURATE_PLUGINS": ""}))
    before = stage.fingerprint()
    monkeypatch.setattr(ToneModel, "fingerprint", lambda self: {"model_sha256": "another"})
    assert stage.fingerprint() == {**before, "model_sha256": "another"}


def test_scores_fall_with_every_wrong_word() -> None:
    words = ["abc", "de", "fg", "hij", "ba", "cd"]
    scores = [
        aligned(" ".join([*("jj" for _ in range(wrong)), *words[wrong:]]), say(" ".join(words)))["align_score"]
        for wrong in range(4)
    ]
    assert all(before > after for before, after in itertools.pairwise(scores))
