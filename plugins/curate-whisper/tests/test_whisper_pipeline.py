"""Whisper in a pipeline: the same words on every executor and in any order, and after a kill the same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

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
            {"use": "read_manifest", "path": str(folder / f"{manifest}.jsonl")},
            {
                "use": "asr",
                "recogniser": "whisper",
                "options": {"model": str(model), "beam_size": 1, "language": "en"},
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


@pytest.mark.parametrize("executor", ["multiprocessing", pytest.param("ray", marks=pytest.mark.ray)])
def test_words_are_the_same_on_every_executor_and_in_any_order(
    executor: str, corpus: Path, tiny_en: Path, request: pytest.FixtureRequest
) -> None:
    if executor == "multiprocessing":
        request.applymarker("processes")
    host = PluginHost(plugin_files=[PLUGIN]) if not _is_installed() else PluginHost()
    found: list[dict[str, str]] = []
    for place, manifest in (("local", "manifest"), (executor, "shuffled")):
        configured = load_pipeline(write_pipeline(corpus, tiny_en, manifest, workers=1 if place == "local" else 2), host=host)
        result = configured.pipeline.run(place, run_dir=corpus / f"run-{place}", host=host)
        assert result.summary["kept"] == 16
        found.append(words(corpus / f"run-{place}" / "out.jsonl"))
    assert found[0] == found[1]


def _is_installed() -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return bool(version("curate-whisper"))
    except PackageNotFoundError:
        return False
