"""Whisper in a pipeline: the same words on every executor and in any order, and after a kill the same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from curate.config import load_pipeline
from curate.plugin import PluginHost

PLUGIN = Path(__file__).parents[1] / "curate_whisper" / "plugin.py"


@pytest.fixture
def corpus(tmp_path: Path, speech_folder: Path) -> Path:
    """Return a folder with the 16 clips, their manifest, and one in another order."""
    lines: list[dict[str, Any]] = []
    for manifest in sorted(speech_folder.glob("*/manifest.jsonl")):
        shutil.copytree(manifest.parent / "audio", tmp_path / "audio", dirs_exist_ok=True)
        lines += [json.loads(line) for line in manifest.read_text().splitlines()]
    kept = [{name: line[name] for name in ("audio_filepath", "text", "duration")} for line in lines]
    shuffled = random.Random(3).sample(kept, len(kept))
    for name, rows in (("manifest", kept), ("shuffled", shuffled)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def write_pipeline(folder: Path, model: Path, manifest: str, **settings: Any) -> Path:
    described = {
        "name": "whisper",
        "stages": [
            {"use": "read_manifest", "manifest": str(folder / f"{manifest}.jsonl")},
            {
                "use": "asr",
                "recogniser": "whisper",
                # int8 rounds the activations of each batch anew: a transcript would depend on its neighbours
                "options": {"model": str(model), "beam_size": 1, "language": "en", "compute_type": "float32"},
                **settings,
            },
            {"use": "merge", "path": "out.jsonl"},
        ],
    }
    path = folder / f"{manifest}.yaml"
    path.write_text(json.dumps(described))
    return path


def words(path: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {Path(row["audio_filepath"]).name: row["pred_text"] for row in rows}


def host() -> PluginHost:
    """Return the plugins, with this one where it is not installed."""
    found = PluginHost()
    return found if "whisper" in {one.name for one in found.recognisers} else PluginHost(plugin_files=[PLUGIN])


def run(executor: str, pipeline: Path) -> dict[str, str]:
    plugins = host()
    configured = load_pipeline(pipeline, host=plugins)
    run_dir = pipeline.with_suffix(f".{executor}")
    result = configured.pipeline.run(executor, run_dir=run_dir, host=plugins)
    assert result.summary["kept"] == result.summary["records_in"] > 5
    return words(run_dir / "out.jsonl")


@pytest.mark.processes
def test_words_are_the_same_in_processes_in_another_order_and_after_a_kill(corpus: Path, tiny_en: Path) -> None:
    first = write_pipeline(corpus, tiny_en, "manifest")
    expected = run("local", first)
    assert run("multiprocessing", write_pipeline(corpus, tiny_en, "shuffled", workers=2)) == expected
    options = [] if "whisper" in {one.name for one in PluginHost().recognisers} else ["--plugins-file", str(PLUGIN)]
    command = [
        *(sys.executable, "-m", "curate.cli", *options, "run", str(first)),
        *("--executor", "multiprocessing", "--run-dir", str(corpus / "killed")),
    ]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as killed:
        while killed.poll() is None and not list((corpus / "killed").glob("run.json")):
            os.sched_yield()
        os.killpg(killed.pid, signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
    resumed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert (corpus / "killed" / "out.jsonl").read_bytes() == (first.with_suffix(".local") / "out.jsonl").read_bytes()


@pytest.mark.ray
def test_words_are_the_same_on_ray(corpus: Path, tiny_en: Path) -> None:
    for name in ("manifest", "shuffled"):  # a few short clips: what differs between executors is not in the audio
        path = corpus / f"{name}.jsonl"
        lines = [line for line in path.read_text().splitlines() if json.loads(line)["duration"] < 3]
        path.write_text("\n".join(lines))
    expected = run("local", write_pipeline(corpus, tiny_en, "manifest"))
    assert run("ray", write_pipeline(corpus, tiny_en, "shuffled", workers=2)) == expected
