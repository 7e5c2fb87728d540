"""Long recordings in windows: no word twice and none lost, whatever the windows do to words at seams."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from curate import AudioBatch, Pipeline
from curate.asr import Transcript, Word, transcript_columns
from curate.errors import InfrastructureError, PlanError, RecordError
from curate.models import AudioModel, Clip
from curate.stages import Merge, ReadManifest
from curate.stages.recognise.windows import merge_words, overlapping_windows, speech_windows, wordless_spans
from tests.unit.stages.stub_recogniser import StubAsrStage

RATE_HZ = 8000
_LEVELS = 64


@dataclass
class BurstRecogniser(AudioModel):
    """Hears bursts of constant level as words: the level's number. One that the clip's edge cuts is heard wrongly."""

    rate_hz: int = RATE_HZ
    window_s: float | None = 10.0  # type: ignore[assignment]
    words: bool = True
    longest_s: float = 0.0

    writes = transcript_columns(timestamps=True, confidence=False)

    def infer(self, clips: Sequence[Clip]) -> Any:
        self.longest_s = max(self.longest_s, *(clip.duration_s for clip in clips))
        return [Transcript(" ".join(w.text for w in found), None, found).row(timestamps=self.words)
                for found in map(_bursts, clips)]  # fmt: skip


def _bursts(clip: Clip) -> tuple[Word, ...]:
    levels = np.rint(np.asarray(clip.samples) * _LEVELS * 1.5).astype(int)
    edges = [0, *(np.flatnonzero(np.diff(levels)) + 1).tolist(), len(levels)]
    found: list[Word] = []
    for start, end in itertools.pairwise(edges):
        if levels[start] > 0:
            cut = start == 0 or end == len(levels)
            found.append(Word(f"cut{levels[start]}" if cut else str(levels[start]), start / RATE_HZ, end / RATE_HZ))
    return tuple(found)


def spoken(seconds: float, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Return a recording of bursts of 0.1 to 0.5 s with pauses between them, and its words."""
    rng = random.Random(seed)
    samples = np.zeros(int(seconds * RATE_HZ), np.float32)
    words: list[str] = []
    at = 0.05
    while at < seconds - 0.7:
        length_s, level = rng.uniform(0.1, 0.5), rng.randint(1, _LEVELS - 1)
        samples[int(at * RATE_HZ) : int((at + length_s) * RATE_HZ)] = level / _LEVELS / 1.5
        words.append(str(level))
        at += length_s + rng.uniform(0.05, 0.3)
    return samples, words


def run(tmp_path: Path, records: list[dict[str, Any]], **settings: Any) -> list[dict[str, Any]]:
    stage = StubAsrStage(make=BurstRecogniser, timestamps=True, **settings)
    stage.setup()
    try:
        batch = AudioBatch(records)
        found = [record for part in stage.stream(batch) for record in part.data]
        assert not batch.rejected
        if batch.failed:
            raise batch.failed[0].error
        return found
    finally:
        stage.teardown()


@pytest.fixture
def recording(tmp_path: Path) -> tuple[str, list[str]]:
    samples, words = spoken(95.0)
    soundfile.write(tmp_path / "long.wav", samples, RATE_HZ, subtype="FLOAT")
    return str(tmp_path / "long.wav"), words


@pytest.mark.parametrize("claim", [{"duration": 95.0}, {}, {"duration": 3.0}])
def test_windows_give_each_word_once_whatever_the_manifest_claims(
    tmp_path: Path, recording: tuple[str, list[str]], claim: dict[str, float]
) -> None:
    path, words = recording
    short = {"audio_filepath": path, "offset": 0.0, "duration": 4.0}
    long = {"audio_filepath": path, **claim}
    found = run(tmp_path, [short, long], long_form="windows", overlap_s=3.0)
    assert {record["audio_filepath"] for record in found} == {path} and len(found) == 2
    [row] = [record for record in found if record.get("offset") is None]
    assert row["pred_text"].split() == words
    assert [word["word"] for word in row["words"]] == words
    starts = [word["start"] for word in row["words"]]
    assert starts == sorted(starts) and 90 < starts[-1] < 95
    assert row["duration"] == 95.0


def test_a_segment_in_windows_has_times_from_its_own_start(tmp_path: Path, recording: tuple[str, list[str]]) -> None:
    path, words = recording
    [row] = run(tmp_path, [{"audio_filepath": path, "offset": 20.0, "duration": 40.0}], long_form="windows")
    inner = [word["word"] for word in row["words"] if not word["word"].startswith("cut")]
    assert " ".join(inner) in " ".join(words)
    assert 38 < row["words"][-1]["end"] <= 40.0 and row["words"][0]["start"] < 1


def test_vad_windows_follow_the_speech(tmp_path: Path, recording: tuple[str, list[str]]) -> None:
    path, words = recording
    with soundfile.SoundFile(path) as file:
        samples: Any = file.read(dtype="float32")
        heard = _bursts(Clip(samples, RATE_HZ))
    speech = [[round(word.start_s - 0.02, 3), round(word.end_s + 0.02, 3)] for word in heard]
    record = {"audio_filepath": path, "duration": 95.0, "speech": speech}
    [row] = run(tmp_path, [dict(record)], long_form="vad")
    assert row["pred_text"].split() == words and row["speech"] == speech
    [empty] = run(tmp_path, [{**record, "speech": []}], long_form="vad")
    assert (empty["pred_text"], empty["words"]) == ("", [])
    with pytest.raises(RecordError, match="voice_activity"):
        run(tmp_path, [{"audio_filepath": path, "duration": 95.0}], long_form="vad")
    # one segment that no window holds becomes overlapping windows
    [whole] = run(tmp_path, [{**record, "speech": [[0.0, 95.0]]}], long_form="vad")
    assert whole["pred_text"].split() == words


class Forgetful(BurstRecogniser):
    """Stops at the first pause of a second, as Whisper may."""

    def infer(self, clips: Sequence[Clip]) -> Any:
        rows = []
        for row in super().infer(clips):
            words = row["words"]
            stop = next((n for n in range(1, len(words)) if words[n]["start"] - words[n - 1]["end"] > 1), len(words))
            rows.append({"text": " ".join(word["word"] for word in words[:stop]), "words": words[:stop]})
        return rows


def test_speech_without_a_word_is_recognised_again(tmp_path: Path) -> None:
    talks = [spoken(4.0, seed) for seed in range(6)]
    pause = np.zeros(RATE_HZ * 3 // 2, np.float32)
    samples = np.concatenate([part for talk, _ in talks for part in (talk, pause)])
    soundfile.write(tmp_path / "talk.wav", samples, RATE_HZ, subtype="FLOAT")
    speech = [[5.5 * number, 5.5 * number + 4.0] for number in range(6)]
    record = {"audio_filepath": str(tmp_path / "talk.wav"), "duration": len(samples) / RATE_HZ, "speech": speech}
    stage = StubAsrStage(make=Forgetful, timestamps=True, long_form="vad")
    stage.setup()
    [row] = [row for part in stage.stream(AudioBatch([record])) for row in part.data]
    stage.teardown()
    assert row["pred_text"].split() == [word for _, words in talks for word in words]
    starts = [word["start"] for word in row["words"]]
    assert starts == sorted(starts) and starts[-1] > speech[-1][0]


def test_wordless_spans_are_speech_without_words_and_fit_into_windows() -> None:
    words = [Word("a", 0.5, 1.0), Word("b", 2.0, 9.0), Word("c", 20.0, 20.4)]  # the start of b reaches back
    speech = [(0.0, 1.2), (2.0, 5.0), (6.0, 9.2), (11.0, 13.0), (14.0, 19.0), (20.0, 28.0)]
    assert wordless_spans(speech, words, 10.0) == [(2.0, 8.0), (11.0, 19.0), (20.4, 28.0)]
    assert wordless_spans(speech, [], 5.0)[-1] == (14.0, 19.0)
    assert wordless_spans([(0.0, 0.9)], [], 10.0) == []


def test_without_long_form_a_record_beyond_the_window_fails_with_advice(
    tmp_path: Path, recording: tuple[str, list[str]]
) -> None:
    with pytest.raises(RecordError, match="long_form: windows") as caught:
        run(tmp_path, [{"audio_filepath": recording[0], "duration": 95.0}])
    assert caught.value.code == "too_long"


def test_bounds_are_those_of_the_record_and_not_of_its_windows(
    tmp_path: Path, recording: tuple[str, list[str]]
) -> None:
    stage = StubAsrStage(make=BurstRecogniser, long_form="windows", max_s=60.0, min_s=20.0)
    stage.setup()
    batch = AudioBatch([{"audio_filepath": recording[0], "offset": 0.0, "duration": each} for each in (50.0, 70.0)])
    assert [record["duration"] for part in stage.stream(batch) for record in part.data] == [50.0]
    assert [one.reason for one in batch.rejected] == ["longer than 60 s"]
    stage.teardown()


def test_a_window_that_cannot_be_read_fails_its_record_once(tmp_path: Path, recording: tuple[str, list[str]]) -> None:
    stage = StubAsrStage(make=BurstRecogniser, long_form="windows")
    stage.setup()
    announced: list[list[dict[str, Any]]] = []
    object.__setattr__(stage, "context", stage.context.__class__(announce=lambda records: announced.append([*records])))
    broken = {"audio_filepath": recording[0], "offset": 0.0, "duration": 300.0}  # past the end of the file
    good = {"audio_filepath": recording[0], "offset": 0.0, "duration": 90.0}
    batch = AudioBatch([broken, good])
    assert [record for part in stage.stream(batch) for record in part.data] == [good]
    assert [failed.record for failed in batch.failed] == [broken]
    assert all(any(record is one for one in (broken, good)) for records in announced for record in records)
    stage.teardown()


def test_a_run_keeps_one_record_for_each_recording(tmp_path: Path, recording: tuple[str, list[str]]) -> None:
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text('{"audio_filepath": "long.wav"}\n' * 2)
    stage = StubAsrStage(make=BurstRecogniser, long_form="windows")
    pipeline = Pipeline("long", [ReadManifest(manifest), stage, Merge("out.jsonl")])
    result = pipeline.run("local", run_dir=tmp_path / "run")
    assert result.summary["kept"] == 2
    assert {record["pred_text"] for record in result.records()} == {" ".join(recording[1])}


def test_words_without_times_cannot_be_joined(tmp_path: Path, recording: tuple[str, list[str]]) -> None:
    stage = StubAsrStage(make=lambda: BurstRecogniser(words=False), long_form="windows")
    stage.setup()
    with pytest.raises(InfrastructureError, match="words with times"):
        list(stage.stream(AudioBatch([{"audio_filepath": recording[0], "duration": 95.0}])))
    stage.teardown()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"long_form": "whole"}, "windows, vad or null"),
        ({"long_form": "windows", "long_window_s": 20.0}, "at most the model's 10"),
        ({"long_form": "windows", "long_window_s": 0.1}, "at least 1"),
        ({"long_form": "vad", "overlap_s": 6.0}, "half"),
    ],
)
def test_an_impossible_setting_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        StubAsrStage(make=BurstRecogniser, **settings).check()


@given(st.floats(0, 50), st.floats(0.1, 5000), st.floats(5, 30), st.floats(0, 2.5))
def test_overlapping_windows_cover_the_span(start_s: float, length_s: float, window_s: float, overlap_s: float) -> None:
    windows = overlapping_windows(start_s, start_s + length_s, window_s, overlap_s)
    assert windows[0][0] == start_s and windows[-1][1] == start_s + length_s
    assert all(end - start <= window_s + 0.002 for start, end in windows)
    assert all(earlier[1] - later[0] >= overlap_s - 0.003 for earlier, later in itertools.pairwise(windows))


def test_speech_windows_hold_each_segment_whole_or_overlap() -> None:
    speech = [(0.0, 4.0), (5.0, 9.0), (9.5, 12.0), (20.0, 45.0), (46.0, 47.0)]
    windows = speech_windows(speech, 10.0, 2.0)
    assert windows[:2] == [(0.0, 9.0), (9.5, 12.0)]
    assert windows[-1] == (46.0, 47.0)
    assert windows[2][0] == 20.0 and windows[-2][1] == 45.0 and len(windows) == 6


@given(st.integers(0, 10_000), st.floats(-0.3, 0.3))
def test_a_seam_keeps_each_word_once_although_times_differ(seed: int, shift_s: float) -> None:
    """Two windows hear the same words, place them differently, and mishear the word at their edge."""
    rng = random.Random(seed)
    truth = [str(rng.randint(0, 9)) for _ in range(60)]
    heard = [Word(word, 0.5 * place, 0.5 * place + 0.3) for place, word in enumerate(truth)]
    first = [*heard[:36], Word("mis", 18.0, 18.2)]  # until 18.2
    moved = [Word(w.text, max(0.0, w.start_s + shift_s), w.end_s + shift_s) for w in heard[29:]]  # from 14.3
    second = [Word("heard", 14.3, 14.4), *moved]
    joined = merge_words([(0.0, 18.2), (14.3, 30.0)], [first, second])
    assert [word.text for word in joined] == truth
    assert all(a.start_s <= b.start_s for a, b in itertools.pairwise(joined))
