"""The segments of recordings are published in six forms, and read back by `read_segments`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from curate import Pipeline
from curate.errors import PlanError
from curate.io.provenance import verify_set
from curate.stages import Merge, ReadManifest, SegmentsReader, SubtitlesWriter

WORDS = [{"word": "good", "start": 0.1, "end": 0.4, "score": 0.5}, {"word": "day", "start": 0.5, "end": 0.9}]
ROWS: list[dict[str, Any]] = [
    {
        "audio_filepath": "talk.wav",
        "offset": 2.0,
        "duration": 1.0,
        "text": "good day",
        "speaker": "ann",
        "words": WORDS,
    },
    {"audio_filepath": "b/other talk.wav", "duration": 1.5, "text": 'a <b> & "c"', "speaker": "bo", "words": WORDS},
    {"audio_filepath": "talk.wav", "offset": 0.5, "duration": 1.25, "text": "hello", "speaker": "ann", "words": WORDS},
    {"audio_filepath": "talk.wav", "offset": 2.5, "duration": 1.0, "text": "yes", "speaker": "ann", "words": WORDS},
]


def write_corpus(folder: Path, rows: list[dict[str, Any]] = ROWS) -> ReadManifest:
    for place in {row["audio_filepath"] for row in rows}:
        (folder / place).parent.mkdir(exist_ok=True)
        soundfile.write(folder / place, np.zeros(80_000, np.int16) + 5, 16_000)
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ReadManifest(folder / "in.jsonl")


@pytest.mark.parametrize("form", ["srt", "vtt", "ctm", "stm", "rttm", "textgrid"])
def test_every_form_reads_back_as_it_was_written(form: Any, tmp_path: Path) -> None:
    source = write_corpus(tmp_path)
    Pipeline("out", [source, SubtitlesWriter("set", form=form)]).run(run_dir=tmp_path / "run")
    place = tmp_path / "run" / "set"
    assert not list(verify_set(place))
    audio = tmp_path / "audio"
    audio.mkdir()
    for name, alias in (("talk.wav", "talk.wav"), ("b/other talk.wav", "other_talk.wav")):
        (audio / alias).write_bytes((tmp_path / name).read_bytes())
    reader = SegmentsReader(place, audio=audio)
    again = Pipeline("in", [reader, Merge("out.jsonl")]).run(run_dir=tmp_path / "again")
    assert again.summary["quarantined"] == 0
    rows = [json.loads(line) for line in (tmp_path / "again" / "out.jsonl").read_text().splitlines()]
    found = sorted((Path(row["audio_filepath"]).stem, row.get("offset", 0.0), row["duration"]) for row in rows)
    if form == "ctm":
        assert [row["text"] for row in rows if "other" in row["audio_filepath"]] == ["good day"]
        assert found[0] == ("other_talk", 0.1, 0.8)
        return
    assert found == [("other_talk", 0.0, 1.5), ("talk", 0.5, 1.25), ("talk", 2.0, 1.0), ("talk", 2.5, 1.0)]
    if form != "rttm":
        assert {row["text"] for row in rows} == {row["text"] for row in ROWS}
    if form != "srt":
        assert {row["speaker"] for row in rows} == {"ann", "bo"}


def test_recordings_of_one_name_have_files_of_their_own(tmp_path: Path) -> None:
    rows = [{"audio_filepath": f"{folder}/1.wav", "duration": 1.0, "text": folder} for folder in ("a", "b")]
    Pipeline("out", [write_corpus(tmp_path, rows), SubtitlesWriter("set")]).run(run_dir=tmp_path / "run")
    files = sorted((tmp_path / "run" / "set").glob("1-*.srt"))
    assert sorted(path.read_text().split("\n")[2] for path in files) == ["a", "b"]


def test_segments_of_a_record_are_written_one_by_one(tmp_path: Path) -> None:
    inner = [{"start": 0.0, "end": 1.0, "text": "one", "speaker": "x"}, {"start": 1.5, "end": 2.0, "text": "two"}]
    rows = [{"audio_filepath": "a.wav", "offset": 1.0, "duration": 2.0, "text": "one two", "segments": inner}]
    Pipeline("out", [write_corpus(tmp_path, rows), SubtitlesWriter("set", form="stm")]).run(run_dir=tmp_path / "run")
    assert (tmp_path / "run" / "set" / "a.stm").read_text() == "a 1 x 1.000 2.000 one\na 1 unknown 2.500 3.000 two\n"


def test_overlapping_segments_of_a_speaker_lie_in_tiers_of_that_name(tmp_path: Path) -> None:
    source = write_corpus(tmp_path)
    Pipeline("out", [source, SubtitlesWriter("set", form="textgrid")]).run(run_dir=tmp_path / "run")
    assert (tmp_path / "run" / "set" / "talk.TextGrid").read_text().count('name = "ann"') == 2


@pytest.mark.parametrize(("form", "column"), [("ctm", "words"), ("rttm", "speaker"), ("srt", "text")])
def test_a_form_whose_column_is_missing_is_an_error_of_the_plan(form: Any, column: str, tmp_path: Path) -> None:
    source = write_corpus(tmp_path, [{"audio_filepath": "a.wav", "duration": 1.0}])
    with pytest.raises(PlanError, match=column):
        Pipeline("out", [source, SubtitlesWriter("set", form=form)]).run(run_dir=tmp_path / "run")
