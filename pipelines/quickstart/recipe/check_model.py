"""Transcribe the demo's clips by direct forward passes and print the word error rate of each."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import soundfile as sf
import soxr
from nemo.utils import logging as nemo_logging

from .model import load_model, transcribe
from .speech import RATE_HZ

QUICKSTART = Path(__file__).resolve().parent.parent
ALLOWED_MEDIAN_WER = 0.1
BATCH_CLIPS = 8


def read_records(manifest: Path) -> dict[int, dict[str, Any]]:
    """Return the records by line, counted from 1, without those that are meant for quarantine."""
    quarantined = json.loads((manifest.parent / "expected.json").read_text(encoding="utf-8"))["quarantined"]
    lines = manifest.read_text(encoding="utf-8").splitlines()
    return {line: json.loads(text) for line, text in enumerate(lines, start=1) if str(line) not in quarantined}


def read_clip(root: Path, record: dict[str, Any]) -> np.ndarray:
    """Return the record's audio or segment as mono float32 at `RATE_HZ`."""
    path = root / record["audio_filepath"]
    rate_hz = sf.info(path).samplerate
    start = round(record.get("offset", 0.0) * rate_hz)
    samples, _ = sf.read(path, round(record["duration"] * rate_hz), start, dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ).astype(np.float32)


def main() -> None:
    """Measure, print, and fail when the good clips are not understood."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=QUICKSTART / "model.nemo")
    parser.add_argument("--manifest", type=Path, default=QUICKSTART / "data" / "manifest.jsonl")
    arguments = parser.parse_args()

    nemo_logging.setLevel("ERROR")
    model = load_model(arguments.model)
    expected = json.loads((arguments.manifest.parent / "expected.json").read_text(encoding="utf-8"))
    records = read_records(arguments.manifest)
    lines = list(records)
    hypotheses: list[str] = []
    for start in range(0, len(lines), BATCH_CLIPS):
        batch = [records[line] for line in lines[start : start + BATCH_CLIPS]]
        hypotheses += transcribe(model, [read_clip(arguments.manifest.parent, record) for record in batch])

    good = []
    for line, hypothesis in zip(lines, hypotheses, strict=True):
        record = records[line]
        wer = jiwer.wer(record["text"], hypothesis)
        remark = expected["filtered"].get(str(line), "")
        if not remark:
            good.append(wer)
        print(f"{line:3d} {record['duration']:6.2f} s  WER {wer:.2f}  {hypothesis!r}  {remark}")
    median = statistics.median(good)
    print(f"{len(good)} good clips: median WER {median:.3f}, mean {statistics.mean(good):.3f}, worst {max(good):.3f}")
    if median > ALLOWED_MEDIAN_WER:
        sys.exit(f"the median WER of the good clips is above {ALLOWED_MEDIAN_WER}")


if __name__ == "__main__":
    main()
