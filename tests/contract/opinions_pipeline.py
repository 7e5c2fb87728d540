"""A pipeline of two decoders, their agreement and an alignment, to be run everywhere, and killed.

python -m tests.contract.opinions_pipeline EXECUTOR RUN_DIR MANIFEST
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from curate import Pipeline
from curate.engine import RunOptions
from curate.io import failpoints
from curate.stages import (
    Agreement,
    Align,
    InferenceAsrNemoStage,
    Merge,
    Partition,
    QualityFilter,
    ReadManifest,
    SelectBest,
    SplitSentences,
)
from tests.unit.align.spoken_digits import QUICKSTART

ROOT = Path(__file__).parents[2]
MODEL = str(QUICKSTART / "model.nemo")


def pipeline(manifest: Path, *, workers: int | None = None) -> Pipeline:
    """Return the pipeline; `workers` is the number that each stage with a model has."""
    stages = [
        ReadManifest(manifest),
        Partition(max_records=4),
        InferenceAsrNemoStage(MODEL, decoder="ctc", prefix="ctc_").with_(name="asr-ctc", checkpoint=False),
        InferenceAsrNemoStage(MODEL, decoder="rnnt", prefix="rnnt_").with_(name="asr-rnnt", checkpoint=False),
        Agreement(["ctc_pred_text", "rnnt_pred_text", "text"]),
        SelectBest(["ctc_pred_text", "rnnt_pred_text", "text"]),
        Align(options={"model_name": MODEL}),
        Merge("aligned.jsonl"),
        SplitSentences(align_prefix="align"),
        QualityFilter("align_score >= 0.9"),
        Merge("utterances.jsonl"),
    ]
    stages[2:7] = [stage.with_(workers=workers) for stage in stages[2:7]]
    return Pipeline("opinions", stages)


def run(executor: str, run_dir: Path, manifest: Path, place: str = "") -> int:
    """Run the pipeline in a process of its own, which may be killed at a place, and return its exit status."""
    environment = {**os.environ, failpoints.VARIABLE: place}
    command = [sys.executable, "-m", "tests.contract.opinions_pipeline", executor, str(run_dir), str(manifest)]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, timeout=300).returncode


def results(run_dir: Path) -> tuple[bytes, bytes]:
    return (run_dir / "aligned.jsonl").read_bytes(), (run_dir / "utterances.jsonl").read_bytes()


def main(executor: str, run_dir: str, manifest: str) -> None:
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    options = RunOptions(unit_bytes=2000)
    pipeline(Path(manifest), workers=2).run(executor=executor, run_dir=run_dir, max_failures=10, options=options)


if __name__ == "__main__":
    main(*sys.argv[1:])
