"""Two decoders, their agreement, and an alignment: the same bytes on every executor, and after a kill."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import soundfile

from tests.contract.opinions_pipeline import pipeline, results, run
from tests.unit.align.spoken_digits import RATE_HZ, draw, join, speak

pytestmark = pytest.mark.nemo


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return recordings of one to three sentences; one has another text, and one file is damaged."""
    folder = tmp_path_factory.mktemp("digits")
    rows = []
    for number in range(8):
        spoken = [speak(draw(10 * number + part, 5), 10 * number + part) for part in range(1 + number % 3)]
        path = folder / f"{number}.flac"
        soundfile.write(path, join(spoken).samples, RATE_HZ, subtype="PCM_16")
        rows.append({"audio_filepath": path.name, "text": " ".join(f"{one.text}." for one in spoken)})
    rows[5]["text"] = "nine nine nine nine."
    (folder / "6.flac").write_bytes(b"fLaC" + bytes(100))
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "in.jsonl"


@pytest.fixture(scope="module")
def undisturbed(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    pipeline(manifest).run(run_dir=run_dir, max_failures=10)
    return results(run_dir)


def test_right_sentences_are_kept_and_decoders_agree(undisturbed: tuple[bytes, bytes]) -> None:
    aligned, utterances = (list(map(json.loads, part.splitlines())) for part in undisturbed)
    names = [[Path(row["audio_filepath"]).stem for row in rows] for rows in (aligned, utterances)]
    assert "".join(names[0]) == "0123457"
    assert "".join(names[1]) == "01122234477"
    assert aligned[0]["agreement_wer"] == 0.0
    assert aligned[0]["best_source"] == "ctc_pred_text"
    assert aligned[5]["agreement_wer"] > 0.5
    assert aligned[5]["best_source"] != "text"


@pytest.mark.ray
def test_ray_has_the_same_bytes(
    ray_cluster: Any, manifest: Path, undisturbed: tuple[bytes, bytes], tmp_path: Path
) -> None:
    pipeline(manifest, workers=1).run(executor="ray", run_dir=tmp_path, max_failures=10)
    assert results(tmp_path) == undisturbed


def test_two_processes_have_the_same_bytes_after_a_killed_driver(
    manifest: Path, undisturbed: tuple[bytes, bytes], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    assert run("multiprocessing", run_dir, manifest, "commit.after_rename:kill@2") == -signal.SIGKILL
    assert not (run_dir / "utterances.jsonl").exists()
    assert run("multiprocessing", run_dir, manifest) == 0
    assert results(run_dir) == undisturbed
