"""Duplicates of texts are marked and limited, of audio left out, and of other manifests filtered."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate import Pipeline
from curate.audio import Audio
from curate.errors import PlanError
from curate.records import Record
from curate.stages import Deduplicate, Merge, ReadRecords
from curate.stages.corpus.keys import AudioKeys, TextKeys
from curate.testing import AudioStageContract, StageContract, write_tone

pytest.importorskip("duckdb", reason="needs duckdb: pip install 'curate-speech[corpus]'")

SENTENCE = "The committee will meet again on Thursday."


def run(folder: Path, records: Sequence[Record], *, executor: Any = "local", **settings: Any) -> Any:
    stages = [ReadRecords(records), Deduplicate(**{"audio": "none", **settings}), Merge("out.jsonl")]
    return Pipeline("p", stages).run(executor=executor, run_dir=folder / "run")


def rows(folder: Path) -> list[Record]:
    return [json.loads(line) for line in (folder / "run" / "out.jsonl").read_text().splitlines()]


def reasons(result: Any) -> list[tuple[str, str]]:
    return [(note.record["_id"], note.reason) for note in result.filtered]


def test_one_sentence_by_thirty_speakers_is_kept_and_counted(tmp_path: Path) -> None:
    result = run(tmp_path, [{"text": SENTENCE, "speaker": f"s{number}"} for number in range(30)])
    assert [row["text_count"] for row in rows(tmp_path)] == [30] * 30
    assert [row["duplicate_of"] for row in rows(tmp_path)] == [None, *["records:1"] * 29]
    assert reasons(result) == []
    assert not {"dedup_text", "dedup_bands", "scope"} & rows(tmp_path)[0].keys()  # keys do not travel on


def test_texts_are_equal_after_normalisation_and_near_after_a_change(tmp_path: Path) -> None:
    texts = [SENTENCE, "the committee will meet again, on thursday", "the committee would meet again on thursday", "A"]
    run(tmp_path, [{"text": text} for text in texts])
    assert [row["duplicate_of"] for row in rows(tmp_path)] == [None, "records:1", "records:1", None]
    run(tmp_path / "exact", [{"text": text} for text in texts], text="exact")
    assert [row["duplicate_of"] for row in rows(tmp_path / "exact")] == [None, "records:1", None, None]


def test_text_of_few_words_or_none_is_not_compared(tmp_path: Path) -> None:
    run(tmp_path, [{"text": text} for text in ("thank you", "Thank you.", None, None, "我们明天见", "我们明天见")])
    assert [row["text_count"] for row in rows(tmp_path)] == [None, None, None, None, 2, 2]


def test_max_per_text_keeps_the_first_of_each_scope(tmp_path: Path) -> None:
    records = [{"text": SENTENCE, "speaker": speaker} for speaker in ("a", "b", "a", "a", "b")]
    result = run(tmp_path, records, max_per_text=1)
    assert [row["speaker"] for row in rows(tmp_path)] == ["a", "b"]
    assert reasons(result) == [(f"records:{n}", "more than 1 of one text") for n in (3, 4, 5)]
    assert {note.record["duplicate_of"] for note in result.filtered} == {"records:1"}
    everyone = run(tmp_path / "all", records, max_per_text=2, scope=[])
    assert [identity for identity, _ in reasons(everyone)] == ["records:3", "records:4", "records:5"]


def test_text_of_another_manifest_is_filtered(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(json.dumps({"text": "the COMMITTEE will meet, again on Thursday!"}) + "\n")
    records = [{"text": SENTENCE}, {"text": "something else is said in this one"}, {"text": SENTENCE + " today"}]
    result = run(tmp_path, records, against=[str(tmp_path / "test.jsonl")])
    assert [row["text"] for row in rows(tmp_path)] == ["something else is said in this one"]
    assert reasons(result) == [(f"records:{n}", "text of another manifest") for n in (1, 3)]
    assert all(note.record["duplicate_of"].endswith("test.jsonl:1") for note in result.filtered)


def test_a_text_that_is_no_string_fails_alone(tmp_path: Path) -> None:
    result = run(tmp_path, [{"text": SENTENCE}, {"text": 7}, {"text": SENTENCE}])
    assert [(note.record["_id"], note.code) for note in result.quarantined] == [("records:2", "bad_value")]
    assert [row["text_count"] for row in rows(tmp_path)] == [2, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text": "fuzzy"}, "text='fuzzy': choose from near, exact, none"),
        ({"text": "none"}, "both 'none'"),
        ({"max_per_text": 0}, "max_per_text=0: must be at least 1"),
        ({"scope": "speaker"}, "must be lists"),
        ({"against": ["missing.jsonl"]}, "cannot read missing.jsonl"),
        ({"max_per_text": 1, "scope": ["client_id"]}, "reads column 'client_id'"),
    ],
)
def test_a_mistake_is_found_by_the_plan(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Pipeline("p", [ReadRecords([{"text": SENTENCE}]), Deduplicate(**{"audio": "none", **settings})]).plan()


# ------------------------------------------------------------------ audio


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One sentence by a synthesiser, coded and changed, and the same sentence in other voices."""
    av = pytest.importorskip("av", reason="needs av: pip install 'curate-speech[av]'")
    sf = pytest.importorskip("soundfile")
    if shutil.which("espeak-ng") is None:
        pytest.skip("needs espeak-ng")
    folder = tmp_path_factory.mktemp("clips")
    for voice in ("en", "en+f2", "en+m3", "en-us+f4"):
        speak = ["espeak-ng", "-v", voice, "-w", str(folder / f"{voice}.wav"), SENTENCE]
        subprocess.run(speak, check=True)
    samples, rate_hz = sf.read(folder / "en.wav", dtype="float32")
    sf.write(folder / "same.flac", samples, rate_hz)
    sf.write(folder / "quiet.wav", 0.5 * samples, rate_hz)
    sf.write(folder / "later.wav", np.concatenate((np.zeros(round(0.2 * rate_hz), np.float32), samples)), rate_hz)
    sf.write(folder / "cut.wav", samples[round(0.2 * rate_hz) :], rate_hz)
    with av.open(str(folder / "coded.mp3"), "w") as container:
        stream = container.add_stream("libmp3lame", rate=rate_hz, layout="mono")
        stream.bit_rate = 64_000
        frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.rate = rate_hz
        for resampled in av.AudioResampler("s16p", "mono", rate_hz).resample(frame):
            container.mux(stream.encode(resampled))
        container.mux(stream.encode(None))
    return {path.name: path for path in folder.iterdir()}


ALL = (
    "en.wav",
    "same.flac",
    "coded.mp3",
    "quiet.wav",
    "later.wav",
    "cut.wav",
    "en+f2.wav",
    "en+m3.wav",
    "en-us+f4.wav",
)


def test_the_same_recording_is_found_in_other_forms_and_another_voice_is_not(
    tmp_path: Path, clips: dict[str, Path]
) -> None:
    records = [{"audio_filepath": str(clips[name]), "text": SENTENCE} for name in ALL]
    result = run(tmp_path, records, audio="near")
    kept = {Path(row["audio_filepath"]).name for row in rows(tmp_path)}
    assert kept == {"en.wav", "en+f2.wav", "en+m3.wav", "en-us+f4.wav"}
    assert {reason for _, reason in reasons(result)} == {"duplicate audio"}
    assert {note.record["duplicate_of"] for note in result.filtered} == {"records:1"}


def test_equal_samples_are_found_in_another_container(tmp_path: Path, clips: dict[str, Path]) -> None:
    records = [{"audio_filepath": str(clips[name]), "text": SENTENCE} for name in ALL]
    result = run(tmp_path, records, audio="exact", text="none")
    assert reasons(result) == [("records:2", "duplicate audio")]
    assert "text_count" not in rows(tmp_path)[0]


def test_audio_of_another_manifest_is_found_by_its_keys(tmp_path: Path, clips: dict[str, Path]) -> None:
    run(tmp_path / "test", [{"audio_filepath": str(clips["en.wav"])}], audio="near", text="none", keep_keys=True)
    against = str(tmp_path / "test" / "run" / "out.jsonl")
    records = [{"audio_filepath": str(clips[name])} for name in ("coded.mp3", "en+f2.wav")]
    result = run(tmp_path, records, audio="near", text="none", against=[against])
    assert reasons(result) == [("records:1", "audio of another manifest")]


def test_segments_of_a_recording_are_compared_by_themselves(tmp_path: Path) -> None:
    path = str(write_tone(tmp_path / "a.wav", 2.0))
    cuts = [(0.0, 1.0), (1.0, 1.0), (0.0, 1.0)]
    records = [{"audio_filepath": path, "offset": offset, "duration": duration} for offset, duration in cuts]
    result = run(tmp_path, records, audio="exact", text="none")
    assert [identity for identity, _ in reasons(result)][-1:] == ["records:3"]


def test_the_digest_of_samples_does_not_depend_on_where_they_lie(tmp_path: Path) -> None:
    from curate.stages.corpus.keys import samples_digest

    first, second = write_tone(tmp_path / "a.wav"), write_tone(tmp_path / "b" / "c.wav")
    assert samples_digest(Audio.of({"audio_filepath": str(first)})) == samples_digest(
        Audio.of({"audio_filepath": str(second)})
    )


class TestTextKeys(StageContract):
    def stage(self) -> TextKeys:
        return TextKeys()

    def records(self, folder: Path) -> Sequence[Record]:
        return [{"text": SENTENCE}, {"text": None}, {"text": "short"}, {"text": 7}, {"text": SENTENCE, "lang": "en"}]


class TestAudioKeys(AudioStageContract):
    def stage(self) -> AudioKeys:
        return AudioKeys()

    def records(self, folder: Path) -> Sequence[Record]:
        paths = [write_tone(folder / f"{number}.wav", 0.2 + number / 2) for number in range(3)]
        return [{"audio_filepath": str(path)} for path in paths]
