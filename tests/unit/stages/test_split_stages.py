"""From recordings to utterances: the stages that cut, and what becomes of times, texts and the books."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from curate import Pipeline
from curate.asr import Transcript, Word
from curate.audio_stage import AudioStage
from curate.errors import PlanError
from curate.records import AudioBatch, Record
from curate.stage import Joined, ProcessingStage
from curate.stages import (
    Hallucination,
    JoinParts,
    Merge,
    ReadRecords,
    SplitSentences,
    SplitSpeech,
    SplitTurns,
    SplitWindows,
    TrimSilence,
)
from curate.testing import AudioStageContract, StageContract, write_broken, write_silence, write_tone
from tests.unit.signal.real_speech import needs_speech, white_noise
from tests.unit.stages.long_speech import RATE_HZ, long_speech

WORDS = [
    {"word": "Hello", "start": 1.0, "end": 1.4},
    {"word": "there.", "start": 1.5, "end": 2.2},
    {"word": "How", "start": 3.0, "end": 3.2, "score": 0.9},
    {"word": "are", "start": 3.3, "end": 3.5},
    {"word": "you?", "start": 3.6, "end": 4.3},
]
TURNS = [
    {"start": 0.0, "end": 2.0, "speaker": "a"},
    {"start": 1.5, "end": 3.0, "speaker": "b"},
    {"start": 3.2, "end": 3.5, "speaker": "b"},
]


class _Contract(AudioStageContract):
    def records(self, folder: Path) -> list[Record]:
        tone = str(write_tone(folder / "a.wav", 5.0))
        return [
            {"audio_filepath": tone, "speech": [[0.2, 1.0], [2.0, 4.5]], "words": WORDS, "speaker": "x"},
            {
                "audio_filepath": str(write_tone(folder / "c.wav", 5.0)),
                "offset": 1.0,
                "duration": 3.0,
                "speech": [[0.1, 2.9]],
            },
            {"audio_filepath": str(write_silence(folder / "s.wav", 2.0)), "speech": []},
            {"audio_filepath": tone, "speech": [[2, 1]]},
            {"audio_filepath": str(write_broken(folder / "b.wav")), "speech": [[0, 1]]},
        ]


class TestSplitSpeech(_Contract):
    def stage(self) -> AudioStage:
        return SplitSpeech(max_s=2.0)


class TestPackedSpeech(_Contract):
    def stage(self) -> AudioStage:
        return SplitSpeech(mode="pack", max_s=3.0)


class TestSplitWindows(_Contract):
    def stage(self) -> AudioStage:
        return SplitWindows(window_s=1.5)


class TestTrimSilence(_Contract):
    def stage(self) -> AudioStage:
        return TrimSilence()


class TestSplitSentences(StageContract):
    def stage(self) -> ProcessingStage:
        return SplitSentences()

    def records(self, folder: Path) -> list[Record]:
        return [
            {"words": WORDS, "duration": 5.0, "text": "Hello there. How are you?"},
            {"words": [], "duration": 1.0},
            {"words": "none", "duration": 1.0},
            {"words": WORDS, "duration": 5.0, "offset": 10.0},
        ]


class TestSplitTurns(StageContract):
    def stage(self) -> ProcessingStage:
        return SplitTurns(overlap="drop")

    def records(self, folder: Path) -> list[Record]:
        return [
            {"turns": TURNS, "duration": 5.0},
            {"turns": [], "duration": 5.0},
            {"turns": [{"start": 2, "end": 1, "speaker": "a"}], "duration": 5.0},
        ]


def run(stage: ProcessingStage, record: Record) -> Any:
    """Return the records behind a stage, or the reason or the code of the one that is left out."""
    stage.setup()
    done = stage.process(AudioBatch([dict(record)]))
    assert isinstance(done, AudioBatch)
    if done.failed:
        return done.failed[0].error.code
    return done.rejected[0].reason if done.rejected else done.data


def places(children: list[Record]) -> list[tuple[float, float]]:
    return [(child["offset"], round(child["offset"] + child["duration"], 3)) for child in children]


@pytest.fixture
def minute(tmp_path: Path) -> Record:
    """A minute of noise with pauses of 0.2 s at 17, 30, 44 and 51 s."""
    samples = 0.1 * white_noise(60 * RATE_HZ)
    for second in (17, 30, 44, 51):
        samples[second * RATE_HZ : second * RATE_HZ + RATE_HZ // 5] *= 0.001
    soundfile.write(tmp_path / "minute.wav", samples, RATE_HZ)
    return {"audio_filepath": str(tmp_path / "minute.wav"), "speaker": "x", "words": WORDS, "speech_s": 1.0}


def test_segments_nearer_than_the_gap_are_one_utterance_and_short_ones_are_marked(minute: Record) -> None:
    children = run(SplitSpeech(), {**minute, "speech": [[1, 3], [3.4, 5], [6, 6.3], [20, 45], [45.2, 59]]})
    assert places(children) == [(1, 5), (6, 6.3), (20, 45), (45.2, 59)]
    assert [child["too_short"] for child in children] == [False, True, False, False]
    assert [(child["part"], child["parts"]) for child in children] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert all(child["speaker"] == "x" for child in children)
    assert [child["speech_s"] for child in children] == [3.6, 0.3, 25, 13.8], "without the gaps"
    assert not {"words", "speech", "claimed_duration"} & {name for child in children for name in child}


def test_text_of_an_utterance_with_little_speech_is_taken_for_a_hallucination(minute: Record) -> None:
    children = run(SplitSpeech(), {**minute, "speech": [[1, 1.2], [6, 9]]})
    scored = run(Hallucination(), {**children[0], "pred_text": "and then"})[0]
    assert scored["hallucination_no_speech"] is True and "no_speech" in scored["hallucination_reasons"]
    assert run(Hallucination(), {**children[1], "pred_text": "and then we"})[0]["hallucination_no_speech"] is False


def test_a_long_segment_is_cut_at_its_quietest_places(minute: Record) -> None:
    children = run(SplitSpeech(max_s=20), {**minute, "speech": [[0, 60]]})
    assert [start for start, _ in places(children)][1:] == pytest.approx([17.1, 30.1, 44.1], abs=0.06)
    assert places(children)[-1][1] == 60
    assert not any(child["cut_in_speech"] for child in children)
    children = run(SplitSpeech(max_s=8), {**minute, "speech": [[0, 16]]})
    assert [child["cut_in_speech"] for child in children] == [True] * len(children)
    assert max(child["duration"] for child in children) <= 8
    assert sum(child["speech_s"] for child in children) == pytest.approx(16)


def test_pack_fills_windows_and_keeps_the_segments_inside(minute: Record) -> None:
    children = run(SplitSpeech(mode="pack"), {**minute, "speech": [[1, 9], [10, 19], [21, 30.5], [31, 40], [50, 60]]})
    assert places(children) == [(1, 30.5), (31, 60)]
    assert children[0]["segments"] == [[0, 8], [9, 18], [20, 29.5]]
    assert [child["speech_s"] for child in children] == [26.5, 19]


def test_a_segment_of_a_segment_lies_in_the_recording(minute: Record) -> None:
    children = run(SplitSpeech(), {**minute, "offset": 10.0, "duration": 20.0, "speech": [[1, 3], [18, 25]]})
    assert places(children) == [(11, 13), (28, 30)]


def test_a_recording_without_speech_is_filtered_and_one_without_the_column_fails(minute: Record) -> None:
    assert run(SplitSpeech(), {**minute, "speech": []}) == "no speech"
    assert run(SplitSpeech(), minute) == "missing_column"
    assert run(TrimSilence(), {**minute, "speech": []}) == "no speech"


@pytest.mark.parametrize(
    "stage",
    [
        SplitSpeech(mode="pieces"),
        SplitSpeech(max_s=0.1),
        SplitSpeech(min_s=31),
        SplitWindows(window_s=0),
        SplitWindows(overlap_s=30),
        SplitSentences(min_s=5, max_s=2),
        SplitTurns(overlap="keep"),
        TrimSilence(lead_s=-1),
    ],
    ids=lambda stage: f"{stage.name}-{stage.settings()}"[:60],
)
def test_settings_that_cannot_work_are_refused_when_the_pipeline_is_planned(stage: ProcessingStage) -> None:
    with pytest.raises(PlanError):
        stage.check()


def test_windows_cover_everything_once_or_overlap(minute: Record) -> None:
    assert places(run(SplitWindows(window_s=25), minute)) == [(0, 25), (25, 50), (50, 60)]
    assert places(run(SplitWindows(window_s=25, even=True), minute)) == [(0, 20), (20, 40), (40, 60)]
    assert places(run(SplitWindows(window_s=30, overlap_s=10), minute)) == [(0, 30), (20, 50), (40, 60)]
    assert places(run(SplitWindows(window_s=90), minute)) == [(0, 60)]
    assert places(run(SplitWindows(window_s=30, overlap_s=10, even=True), {**minute, "offset": 5, "duration": 31})) == [
        (5, 25.5),
        (15.5, 36),
    ]


def test_sentences_have_their_text_words_and_times() -> None:
    first, second = run(SplitSentences(), {"words": WORDS, "duration": 5.0, "text": "x", "offset": 10.0})
    assert (first["text"], second["text"]) == ("Hello there.", "How are you?")
    assert places([first, second]) == [(10.8, 12.4), (12.8, 14.5)]
    assert first["words"][0] == {"word": "Hello", "start": 0.2, "end": 0.6}
    assert second["words"][0] == {"word": "How", "start": 0.2, "end": 0.4, "score": 0.9}


def test_words_of_a_recogniser_are_cut_into_sentences_and_joined_as_they_were() -> None:
    spoken = [Word("Yes.", 0.5, 1.0, 0.9), Word("No", 2.0, 2.4), Word("way.", 2.5, 3.0)]
    words = Transcript("Yes. No way.", words=tuple(spoken)).row(timestamps=True)["words"]
    sentences = run(SplitSentences(min_s=0), {"words": words, "duration": 4.0, "_id": "a:1"})
    assert [child["text"] for child in sentences] == ["Yes.", "No way."]
    parts = [{**child, "_id": f"a:1/{number}"} for number, child in enumerate(sentences)]
    [joined] = JoinParts().gather(iter(parts))
    assert isinstance(joined, Joined)
    moved_s = joined.record.get("offset", 0.0)
    assert [
        (word["word"], round(word["start"] + moved_s, 3), word.get("score")) for word in joined.record["words"]
    ] == [(word.text, word.start_s, word.confidence) for word in spoken]


def test_a_short_sentence_joins_the_next_and_a_long_one_is_cut_at_its_longest_pause() -> None:
    assert len(run(SplitSentences(min_s=1.3), {"words": WORDS, "duration": 5.0})) == 1
    children = run(SplitSentences(min_s=0, max_s=1.25), {"words": WORDS, "duration": 5.0})
    assert [child["text"] for child in children] == ["Hello there.", "How are", "you?"]
    quoted = [{"word": "»Ja.«", "start": 0, "end": 1}, {"word": "好。", "start": 2, "end": 3.5}]
    assert [child["text"] for child in run(SplitSentences(), {"words": quoted, "duration": 4.0})] == ["»Ja.«", "好。"]
    assert run(SplitSentences(), {"words": None, "duration": 4.0}) == "no words"
    backwards = [WORDS[2], WORDS[0]]
    assert run(SplitSentences(), {"words": backwards, "duration": 5.0}) == "bad_value"


def test_turns_have_one_speaker_and_say_where_others_speak() -> None:
    children = run(SplitTurns(), {"turns": TURNS, "duration": 5.0, "offset": 1.0})
    assert places(children) == [(1, 3), (2.5, 4.5)]
    assert [(child["speaker"], child["overlap_s"]) for child in children] == [("a", 0.5), ("b", 0.5)]
    children = run(SplitTurns(overlap="drop"), {"turns": TURNS, "duration": 5.0})
    assert places(children) == [(0, 1.5), (2, 3.5)]
    assert [child["overlap_s"] for child in children] == [0, 0]
    inner = [{"start": 0, "end": 9, "speaker": "a"}, {"start": 4, "end": 5, "speaker": "b"}]
    assert places(run(SplitTurns(overlap="drop"), {"turns": inner})) == [(0, 4), (5, 9)]
    assert run(SplitTurns(), {"turns": []}) == "no turn of one speaker"


def test_silence_around_speech_is_trimmed_without_new_audio(minute: Record) -> None:
    (trimmed,) = run(TrimSilence(), {**minute, "speech": [[10, 20], [30, 40]], "offset": 5.0, "duration": 50.0})
    assert places([trimmed]) == [(14.9, 45.1)]
    assert trimmed["trimmed_s"] == pytest.approx(19.8)
    assert trimmed["speech"] == [[0.1, 10.1], [20.1, 30.1]]


def test_long_pauses_are_shortened_in_new_audio(tmp_path: Path) -> None:
    rate_hz = 44_100
    samples = np.zeros((12 * rate_hz, 2), np.float32)
    for start, end in ((2, 4), (9, 11)):
        samples[start * rate_hz : end * rate_hz] = 0.5
    soundfile.write(tmp_path / "x.wav", samples, rate_hz)
    record = {"audio_filepath": str(tmp_path / "x.wav"), "speech": [[2, 4], [9, 11]]}
    pipeline = Pipeline("trim", [ReadRecords([record]), TrimSilence(max_pause_s=1.0), Merge("out.jsonl")])
    (row,) = pipeline.run(run_dir=tmp_path / "run").records()
    assert row["duration"] == pytest.approx(0.1 + 2 + 1 + 2 + 0.1)
    assert row["speech"] == [[0.1, 2.1], [3.1, 5.1]]
    path = next((tmp_path / "run" / "audio").rglob("*.flac"))
    loud, found_hz = soundfile.read(path)
    assert found_hz == rate_hz and loud.shape[1] == 2
    inside = np.abs(loud[:, 0]) > 0.4
    assert inside.mean() == pytest.approx(4 / 5.2, abs=0.001)


@needs_speech
def test_ten_minutes_pack_into_full_windows_and_the_books_balance(tmp_path: Path) -> None:
    made = long_speech(10, seed=2)
    soundfile.write(tmp_path / "long.flac", made.samples, RATE_HZ)
    speech = [[round(start, 3), round(end, 3)] for start, end in made.speech]
    record = {"audio_filepath": str(tmp_path / "long.flac"), "speech": speech}
    for number, stage in enumerate((SplitSpeech(), SplitSpeech(max_s=5), SplitSpeech(mode="pack"), SplitWindows())):
        result = Pipeline("split", [ReadRecords([record]), stage]).run(run_dir=tmp_path / f"run-{number}")
        children = list(result.records())
        summary = result.summary
        assert (summary["split_parents"], summary["children"], summary["kept"]) == (1, len(children), len(children))
        assert max(child["duration"] for child in children) <= getattr(stage, "max_s", 30) + 1e-9
        if stage.settings().get("mode") == "pack":
            filled = [child["duration"] / 30 for child in children[:-1]]
            print(f"\nwindows are {np.mean(filled):.1%} full")
            assert np.mean(filled) >= 0.85
        if isinstance(stage, SplitSpeech):
            covered = sum(child["duration"] for child in children)
            assert covered >= sum(end - start for start, end in speech) - 0.001 * len(speech)
