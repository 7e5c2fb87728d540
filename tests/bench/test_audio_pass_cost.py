"""What sharing audio costs: six stages that hear 200 files, against one decoding of each and their own computing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from curate import AudioStage, Pipeline
from curate.audio import Audio, load_record
from curate.records import Record
from curate.stages import ReadRecords
from tests.unit.engine.hearing import recordings

FILES = 200
SECONDS = 10.0
MOST = 1.2


@dataclass
class Spectrum(AudioStage):
    """Computes a spectrum of the whole recording, as a measure does."""

    column: str = "peak"

    def writes(self) -> tuple[str, ...]:
        return (self.column,)

    def process_audio(self, record: Record, audio: Audio) -> Record:
        return {**record, self.column: compute(audio.samples())}


def compute(samples: np.ndarray) -> float:
    frames = samples[: len(samples) // 400 * 400].reshape(-1, 400)
    return round(float(np.abs(np.fft.rfft(frames)).max()), 3)


@pytest.mark.bench
def test_six_stages_cost_little_more_than_one_decoding_and_their_computing(tmp_path: Path) -> None:
    records = recordings(tmp_path, FILES, SECONDS)
    stages = [Spectrum(f"peak_{number}") for number in range(6)]
    Pipeline("warm", [ReadRecords(records[:5]), *stages]).run()

    began = time.perf_counter()
    decoded = [load_record(record) for record in records]
    decode_s = time.perf_counter() - began
    began = time.perf_counter()
    for samples in decoded:
        for _ in stages:
            compute(samples)
    compute_s = time.perf_counter() - began
    del decoded

    began = time.perf_counter()
    result = Pipeline("six", [ReadRecords(records), *stages]).run()
    wall_s = time.perf_counter() - began
    ratio = wall_s / (decode_s + compute_s)
    print(
        f"\n{FILES} files of {SECONDS:g} s: {decode_s:.2f} s to decode, {compute_s:.2f} s to compute, "
        f"{wall_s:.2f} s in the pipeline, ratio {ratio:.2f}, at most {MOST:g}"
    )
    assert [each["decodes"] for each in result.summary["audio"].values()] == [FILES]
    assert ratio <= MOST
