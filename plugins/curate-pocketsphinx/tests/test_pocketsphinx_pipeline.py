"""The whole way: curate finds the plugin, and `pipelines/english` transcribes real speech with it."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from curate.config import load_pipeline
from curate.errors import ConfigError, PlanError
from curate.plugin import PluginHost
from curate.stages import AsrStage
from curate.text import corpus_rate, normaliser, word_errors

ENGLISH = Path(__file__).resolve().parents[3] / "pipelines" / "english" / "pipeline.yaml"

Rows = list[dict[str, Any]]
Transcribe = Callable[..., Rows]

try:
    metadata.distribution("curate-pocketsphinx")
except metadata.PackageNotFoundError:
    pytest.skip("the distribution curate-pocketsphinx is not installed", allow_module_level=True)


@pytest.fixture
def transcribe(speech_folder: Path, tmp_path: Path) -> Transcribe:
    """Run the English pipeline over a set of clips, in an order of choice, and return its output."""

    def run(name: str, order: Callable[[list[str]], list[str]] = list, *sets: str) -> Rows:
        source = speech_folder / name
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(source / "audio", folder / "audio")
        manifest = folder / "manifest.jsonl"
        manifest.write_text("\n".join(order((source / "manifest.jsonl").read_text().splitlines())))
        configured = load_pipeline(
            ENGLISH, host=PluginHost(), sets=[f"vars.manifest={manifest}", *sets], run_dir=folder / "run"
        )
        result = configured.pipeline.run(configured.executor, run_dir=configured.run_dir)
        assert result.summary["kept"] == result.summary["records_in"]
        return [json.loads(line) for line in (folder / "run" / "curated.jsonl").read_text().splitlines()]

    return run


def _shuffled(lines: list[str]) -> list[str]:
    return random.Random(1).sample(lines, len(lines))


def corpus_wer(rows: Rows) -> float:
    normalise = normaliser("whisper-english")
    return corpus_rate(word_errors(normalise(row["text"]), normalise(row["pred_text"])) for row in rows)


def words(rows: Rows) -> dict[str, tuple[str, float]]:
    return {row["origin"]: (row["pred_text"], row["wer"]) for row in rows}


def test_librivox_is_understood_alike_in_any_order_and_on_every_run(transcribe: Transcribe) -> None:
    rows = transcribe("pocketsphinx_librivox")
    assert len(rows) == 5
    assert corpus_wer(rows) <= 0.40
    shuffled = transcribe("pocketsphinx_librivox", _shuffled, "stages.asr.batch_size=2")
    assert [row["origin"] for row in shuffled] != [row["origin"] for row in rows]
    assert words(shuffled) == words(rows)


def test_stereo_at_44100_hz_is_understood_and_its_words_are_placed(transcribe: Transcribe) -> None:
    [row] = transcribe("whisper_jfk", list, "stages.asr.timestamps=true")
    assert row["wer"] <= 0.40
    assert row["duration"] == 11.0
    assert " ".join(word["word"] for word in row["words"]) == row["pred_text"]
    assert row["words"][-1]["end"] <= 11.0


def test_the_manifest_has_to_be_given() -> None:
    with pytest.raises(ConfigError, match=r"pipeline\.yaml:\d+:\d+: .*--set vars\.manifest="):
        load_pipeline(ENGLISH, host=PluginHost())


def test_options_reach_the_recogniser_and_their_mistakes_the_plan() -> None:
    AsrStage("pocketsphinx", options={"beam": 1e-40, "options": {"topn": 4}}).check()
    with pytest.raises(PlanError, match="wip must be above 0"):
        AsrStage("pocketsphinx", options={"wip": 7.0}).check()
    with pytest.raises(PlanError, match="nearest: remove_noise"):
        AsrStage("pocketsphinx", options={"options": {"remove_nose": True}}).check()


def test_curate_lists_it_next_to_a_broken_plugin(tmp_path: Path) -> None:
    broken = tmp_path / "curate_broken-2.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: curate-broken\nVersion: 2.0\n")
    (broken / "entry_points.txt").write_text("[curate]\nbroken = curate_broken\n")
    (tmp_path / "curate_broken.py").write_text("import a_module_that_is_not_there\n")
    shown = subprocess.run(
        [sys.executable, "-m", "curate.cli", "plugins", "--json"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    rows = {row["name"]: row for row in json.loads(shown.stdout)}
    ours = rows["curate-pocketsphinx"]
    assert (ours["status"], ours["version"]) == ("active", metadata.version("curate-pocketsphinx"))
    assert ours["provides"]["recognisers"] == ["pocketsphinx"]
    assert (rows["curate-broken"]["status"], rows["curate-broken"]["version"]) == ("failed", "2.0")
    assert "a_module_that_is_not_there" in rows["curate-broken"]["error"]
    assert rows["curate-speech"]["status"] == "active"
