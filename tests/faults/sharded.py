"""A pipeline that publishes shards, to be killed in a process of its own.

python -m tests.faults.sharded EXECUTOR RUN_DIR INPUT [FORMS]
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from curate import Pipeline, RecordError
from curate.audio.encoding import EncodedAudio
from curate.io import failpoints
from curate.io.provenance import PROVENANCE
from curate.records import Record
from curate.stages import (
    AudioFilesWriter,
    HuggingFaceWriter,
    KaldiWriter,
    NemoTarredWriter,
    Partition,
    ReadManifest,
    SharWriter,
)
from curate.stages.write.formats import OpenShard, ShardFormat
from curate.stages.write.nemo_tarred import NemoFormat
from tests.faults.faulty_stages import misbehave
from tests.shuffled_executor import ShuffledExecutor

ROOT = Path(__file__).parents[2]


@dataclass
class FaultyFormat(NemoFormat):
    """Fails on some records, and counts in a log what it adds.

    Args:
        broken: a file; records with `does: fail_while_broken` fail while it exists.
    """

    log: str = ""
    broken: str = ""

    def open(self, files: Sequence[BinaryIO]) -> OpenShard:
        return _FaultyShard(self, super().open(files))


class _FaultyShard:
    def __init__(self, format: FaultyFormat, shard: OpenShard) -> None:
        self._format, self._shard = format, shard

    def add(self, record: Record, audio: EncodedAudio) -> None:
        if self._format.log:
            with Path(self._format.log).open("ab", buffering=0) as log:
                log.write(f"{record['number']}\n".encode())
        does = record.get("does")
        if does == "fail" or (does == "fail_while_broken" and Path(self._format.broken).exists()):
            raise RecordError("bad_value", "cannot be packed")
        if does and does != "fail_while_broken":
            misbehave(does)
        self._shard.add(record, audio)

    def close(self) -> None:
        self._shard.close()


@dataclass
class WriteFaulty(NemoTarredWriter):
    log: str = ""
    broken: str = ""

    name = "write_faulty"

    def shard_format(self) -> ShardFormat:
        return FaultyFormat(self.target, self.lang, self.log, self.broken)


def pipeline(manifest: Path, log: str = "", broken: str = "") -> Pipeline:
    writer = WriteFaulty("set", shard_records=3, by="split", lang="en", log=log, broken=broken)
    return Pipeline("sharded", [ReadManifest(manifest), Partition(max_records=4), writer])


def folders(manifest: Path) -> Pipeline:
    """Return a pipeline that publishes all formats with a folder of files or an index over all shards."""
    writers = [
        AudioFilesWriter("audio_files", shard_records=13),
        HuggingFaceWriter("hf", shard_records=13, by="split"),
        SharWriter("shar", shard_records=13),
        KaldiWriter("kaldi", shard_records=13),
    ]
    return Pipeline("folders", [ReadManifest(manifest), *writers])


def published(folder: Path) -> dict[str, str]:
    """Return the files of a data set with their checksums, without what names the run."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != PROVENANCE)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def numbers(folder: Path) -> list[int]:
    """Return the numbers of the records in the manifests of a data set, in order."""
    return [
        json.loads(line)["number"]
        for path in sorted(folder.rglob("tarred_audio_manifest.json"))
        for line in path.read_text().splitlines()
    ]


def run(executor: str, run_dir: Path, manifest: Path, place: str = "", forms: str = "nemo") -> int:
    """Run a pipeline in a process of its own, which may be killed at a place, and return its exit status."""
    environment = {**os.environ, failpoints.VARIABLE: place}
    command = [sys.executable, "-m", "tests.faults.sharded", executor, str(run_dir), str(manifest), forms]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, timeout=120).returncode


def main(executor: str, run_dir: str, manifest: str, forms: str = "nemo") -> None:
    from curate.engine import RunOptions

    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    chosen = ShuffledExecutor() if executor == "shuffled" else executor
    made = folders(Path(manifest)) if forms == "folders" else pipeline(Path(manifest))
    made.run(chosen, run_dir=run_dir, max_failures=100, options=RunOptions(unit_bytes=2000))


if __name__ == "__main__":
    main(*sys.argv[1:])
