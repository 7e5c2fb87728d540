"""`curate init` and `curate inspect`: any form of corpus is recognised, and its pipeline runs to kept records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.testing import write_tone
from tests.speech_corpus import FORMS, utterances

Curate = Callable[..., Any]
CORPUS = utterances()

READERS = {form: form.split()[0] for form in FORMS}
FOLDERS = {
    "read_common_voice": "cy",
    "read_kaldi": "data",
    "read_librispeech": "LibriSpeech",
    "read_lhotse shar": "shar",
}
FOLDERS |= {"read_hf saved": "saved"}


@pytest.fixture
def corpus(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the corpus in a form; the working folder is another one."""
    folder, work = tmp_path / "My Corpus", tmp_path / "work"
    folder.mkdir()
    work.mkdir()
    monkeypatch.chdir(work)
    FORMS[request.param](folder, CORPUS)
    return folder / FOLDERS.get(request.param, "")


@pytest.mark.parametrize(("corpus", "reader"), READERS.items(), indirect=["corpus"], ids=READERS)
def test_pipeline_that_init_writes_runs_to_kept_records(corpus: Path, reader: str, curate: Curate) -> None:
    done = curate("init", str(corpus), "--output", "p.yaml")
    assert done.code == 0, done.err
    assert "Next:  curate run p.yaml" in done.out
    assert f"- use: {reader}\n" in Path("p.yaml").read_text()
    done = curate("run", "p.yaml", "--run-dir", "run")
    assert done.code == 0, done.err
    kept = [json.loads(line) for line in Path("run/curated.jsonl").read_text().splitlines()]
    assert [record["text"] for record in kept] == [one.text for one in CORPUS]
    assert [record["duration"] for record in kept] == pytest.approx([one.duration_s for one in CORPUS], abs=1e-3)
    assert "Other thresholds, without repeating phase 0: curate refilter" in done.out  # nothing is decoded again


@pytest.mark.parametrize("corpus", ["read_manifest", "read_hf parquet", "read_webdataset"], indirect=True)
def test_inspect_shows_columns_audio_and_records(corpus: Path, curate: Curate) -> None:
    (path,) = sorted(corpus.glob("*.json")) or [corpus]
    shown = curate("inspect", str(path))
    assert shown.code == 0, shown.err
    about = json.loads(curate("inspect", str(path), "--json").out)
    assert about["records"] == 12
    assert about["columns"]["text"] == {"types": ["str"], "null_share": 0.0, "example": "one"}
    [audio] = about["audio"]
    assert audio.endswith("PCM_16, 16,000 Hz, mono")
    assert audio in shown.out
    assert about["audio"][audio] == 12
    assert 0.0014 < about["opened_s"] * 12 / 3600 < 0.0016


def test_inspect_measures_the_recordings_where_asked(tmp_path: Path, curate: Curate) -> None:
    for number in range(3):
        write_tone(tmp_path / f"{number}.wav", 1.0 + number)
    shown = curate("inspect", str(tmp_path), "--audio")
    assert "peak_dbfs" in shown.out
    about = json.loads(curate("inspect", str(tmp_path), "--audio", "--json").out)
    assert about["measures"]["peak_dbfs"]["recordings"] == 3
    assert about["measures"]["peak_dbfs"]["low"] <= about["measures"]["peak_dbfs"]["high"]
    assert {"clipped_ratio", "bandwidth_hz", "pitch_hz"} <= set(about["measures"])
    assert "measures" not in json.loads(curate("inspect", str(tmp_path), "--json").out)


def test_inspect_names_the_strangest_records_first(tmp_path: Path, curate: Curate) -> None:
    for one in CORPUS:
        one.write(tmp_path / f"{one.name}.wav").with_suffix(".txt").write_text("two words")
    (tmp_path / f"{CORPUS[3].name}.wav").write_bytes(b"<html>not found</html>")
    (tmp_path / f"{CORPUS[5].name}.txt").write_text("many " * 200)
    about = json.loads(curate("inspect", str(tmp_path), "--json").out)
    (broken, why), (odd, reason), *_ = about["strangest"]
    assert (broken, odd) == (f"{tmp_path}:4", f"{tmp_path}:6")
    assert why.startswith("not_audio")
    assert reason == "length of text is 999, and the median 9"


def test_folder_of_recordings_alone_needs_no_manifest(
    tmp_path: Path, curate: Curate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for one in CORPUS:
        one.write(tmp_path / "speech" / f"{one.name}.wav")
    done = curate("init", "speech")
    assert "a folder of recordings: 12, without transcripts" in done.out
    assert curate("run", "speech.yaml").code == 0
    assert len(Path("runs/speech/curated.jsonl").read_text().splitlines()) == 12


def test_manifest_of_absolute_paths_gets_its_roots_and_names(
    tmp_path: Path, curate: Curate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"{one.write(tmp_path / 'audio' / f'{one.name}.wav')}\t{one.text}" for one in CORPUS]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "all.tsv").write_text("\n".join(["path\tsentence", *rows]) + "\n")
    assert curate("init", "lists/all.tsv").code == 0
    assert '"audio_filepath": "path"' in Path("all.yaml").read_text()
    done = curate("run", "all.yaml")
    assert done.code == 0, done.err
    assert len(Path("runs/all/curated.jsonl").read_text().splitlines()) == 12


def test_file_is_never_replaced_unasked_and_nothing_is_a_mistake(
    tmp_path: Path, curate: Curate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    CORPUS[0].write(tmp_path / "speech" / "a.wav")
    Path("speech.yaml").write_text("mine")
    assert curate("init", "speech").code == 2
    assert Path("speech.yaml").read_text() == "mine"
    assert curate("init", "speech", "--force").code == 0
    Path("empty").mkdir()
    for path in ("empty", "nowhere"):
        assert curate("init", path).code == 2


def test_what_no_stage_reads_is_named_with_the_remedy(
    tmp_path: Path, curate: Curate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "packed", "notes"):
        Path(name).mkdir()
    Path("packed/clips.tar.gz").write_bytes(b"")
    Path("notes/readme.md").write_text("hello")
    assert "empty is an empty folder" in curate("init", "empty").err
    assert (
        "packed holds the archive clips.tar.gz, whose members no stage reads: unpack it" in curate("init", "packed").err
    )
    assert "clips.tar.gz is an archive" in curate("inspect", "packed/clips.tar.gz").err
    assert "notes holds neither recordings nor a manifest" in (noted := curate("init", "notes").err)
    assert "(it has 1 file, such as readme.md)" in noted


def test_recording_stands_for_its_folder_and_short_corpora_have_their_length_in_seconds(
    tmp_path: Path, curate: Curate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        write_tone(tmp_path / "tones" / f"{number}.wav", 1.5)
    shown = curate("inspect", "tones/1.wav")
    assert f"tones/1.wav is a recording; its folder, {tmp_path}/tones, is a folder of recordings: 3" in shown.out
    assert "3 records, 0 of them broken; about 4.5 s" in shown.out
    assert "No record is far from the others" in shown.out
    assert "curate init tones/1.wav" in shown.out
