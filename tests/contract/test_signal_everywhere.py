"""From recordings to measured utterances and back: the same bytes on every executor."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from curate import Pipeline
from curate.records import Record
from curate.stages import (
    AudioProfile,
    ClusterSpeakers,
    Denoise,
    JoinParts,
    Merge,
    NormaliseLoudness,
    Partition,
    ReadRecords,
    SplitSpeech,
    VoiceActivity,
)
from tests.unit.stages.test_model_measures import STAGES

RATE_HZ = 16_000


@cache
def recordings(folder: Path) -> list[Record]:
    """Return recordings of a voice-like tone in bursts, over noise."""
    records: list[Record] = []
    for number in range(4):
        rng = np.random.default_rng(number)
        time_s = np.arange(12 * RATE_HZ) / RATE_HZ
        voice = np.sum([np.sin(2 * np.pi * (100 + 30 * number) * k * time_s) / k for k in range(1, 10)], axis=0)
        bursts = (np.sin(2 * np.pi * 0.25 * time_s + number) > 0.2).astype(float)
        samples = 0.1 * voice * bursts + 0.004 * rng.standard_normal(len(time_s))
        soundfile.write(folder / f"{number}.flac", samples, RATE_HZ)
        records.append({"audio_filepath": str(folder / f"{number}.flac"), "number": number})
    (folder / "broken.flac").write_bytes(b"fLaC" + bytes(100))
    return [*records, {"audio_filepath": str(folder / "broken.flac"), "number": 9}]


def run(folder: Path, executor: str, run_dir: Path) -> tuple[bytes, bytes, list[tuple[str, str]]]:
    stages: list[Any] = [
        ReadRecords(recordings(folder)),
        Partition(max_records=2),
        Denoise(max_snr_db=None),
        NormaliseLoudness(),
        VoiceActivity(engine="energy"),
        SplitSpeech(max_s=2.5, merge_gap_s=0.1),
        AudioProfile(),
        *(make().with_(checkpoint=False) for make in STAGES.values()),  # each phase starts workers
        ClusterSpeakers(keep_embeddings=True),
        Merge("parts.jsonl"),
        JoinParts(),
        Merge("whole.jsonl"),
    ]
    result = Pipeline("signal", stages).run(executor=executor, run_dir=run_dir)
    failed = sorted((note.record["_id"], note.code) for note in result.quarantined)
    return (run_dir / "parts.jsonl").read_bytes(), (run_dir / "whole.jsonl").read_bytes(), failed


@pytest.mark.parametrize("executor", ["multiprocessing", pytest.param("ray", marks=pytest.mark.ray)])
def test_utterances_measures_and_joined_recordings_are_the_same_everywhere(
    executor: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if executor == "ray":
        request.getfixturevalue("ray_cluster")
    (tmp_path / "audio").mkdir()
    alone = run(tmp_path / "audio", "local", tmp_path / "local")
    assert run(tmp_path / "audio", executor, tmp_path / executor) == alone
    parts, whole, failed = alone
    assert len(parts.splitlines()) > 8
    assert len(whole.splitlines()) == 4
    assert [code for _, code in failed] == ["unsupported_rate"]  # zeros where the header of FLAC should be
