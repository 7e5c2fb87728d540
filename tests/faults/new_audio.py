"""A pipeline that writes new audio, to be killed in a process of its own.

python -m tests.faults.new_audio EXECUTOR RUN_DIR INPUT

EXECUTOR may be `ray@ADDRESS`.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curate import AudioStage, Pipeline, RecordError, Reject
from curate.audio import Audio
from curate.io import failpoints
from curate.records import Record
from curate.stages import Merge, Partition, ReadManifest
from tests.shuffled_executor import ShuffledExecutor

ROOT = Path(__file__).parents[2]


@dataclass
class Louder(AudioStage):
    """Writes new audio at another level."""

    gain: float = 0.5

    def writes(self) -> tuple[str, ...]:
        return ("duration",)

    def process_audio(self, record: Record, audio: Audio) -> Record:
        return self.context.new_audio(record, self.gain * audio.native(), audio.rate_hz)


@dataclass
class Judged(AudioStage):
    """Hears the new audio, drops some records and fails on others."""

    broken: str = ""

    tuning = frozenset({"broken"})
    cardinality = "filters"

    def writes(self) -> tuple[str, ...]:
        return ("level",)

    def process_audio(self, record: Record, audio: Audio) -> Record | Reject:
        if record["number"] % 7 == 3:
            return Reject("dropped")
        if record["number"] % 7 == 5 and (not self.broken or Path(self.broken).exists()):
            raise RecordError("truncated", "broken")
        return {**record, "level": round(float(np.abs(audio.samples()).mean()), 6)}


def pipeline(manifest: Path, broken: str = "", gain: float = 0.5) -> Pipeline:
    stages = [
        ReadManifest(manifest),
        Partition(max_records=4),
        Louder(),
        Louder(gain=gain).with_(name="again", checkpoint=True),
        Judged(broken=broken),
        Merge("out.jsonl"),
    ]
    return Pipeline("new-audio", stages)


def run(executor: str, run_dir: Path, manifest: Path, place: str = "") -> int:
    """Run the pipeline in a process of its own, which may be killed at a place, and return its exit status."""
    environment = {**os.environ, failpoints.VARIABLE: place}
    command = [sys.executable, "-m", "tests.faults.new_audio", executor, str(run_dir), str(manifest)]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, timeout=120).returncode


def results(run_dir: Path) -> dict[str, str]:
    """Return the published file and all new audio, by name, with their checksums."""
    files = [run_dir / "out.jsonl", *(path for path in (run_dir / "audio").rglob("*") if path.is_file())]
    return {str(path.relative_to(run_dir)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main(executor: str, run_dir: str, manifest: str) -> None:
    from curate.engine import RunOptions

    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    chosen: Any = ShuffledExecutor() if executor == "shuffled" else executor
    if executor.startswith("ray@"):
        from curate.executors.ray import RayExecutor

        chosen = RayExecutor(address=executor.removeprefix("ray@"))
    pipeline(Path(manifest)).run(chosen, run_dir=run_dir, max_failures=100, options=RunOptions(unit_bytes=2000))


if __name__ == "__main__":
    main(*sys.argv[1:])
