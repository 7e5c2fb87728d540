"""The driver's memory does not grow with the rows of a published set."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[2]
MOST_GROWTH_BYTES = 12 * 2**20

PROGRAM = """
import resource, sys
from curate import Pipeline
from curate.stages import NemoTarredWriter, Partition, ReadManifest
manifest, run_dir = sys.argv[1:]
writer = NemoTarredWriter("set", shard_records=500, lang="en", by="split").with_(workers=2)
result = Pipeline("large", [ReadManifest(manifest), Partition(), writer]).run("multiprocessing", run_dir=run_dir)
assert result.summary["quarantined"] == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def peak_bytes(folder: Path, rows: int) -> int:
    """Return the most memory that the driver of a run over as many rows had."""
    soundfile.write(folder / "clip.wav", np.arange(800, dtype=np.int16), 16_000)
    with (folder / f"{rows}.jsonl").open("w") as lines:
        for number in range(rows):
            row = {"audio_filepath": "clip.wav", "duration": 0.05, "text": f"word {number}"}
            lines.write(json.dumps({**row, "split": "dev" if number % 10 == 0 else "train"}) + "\n")
    command = [sys.executable, "-c", PROGRAM, str(folder / f"{rows}.jsonl"), str(folder / f"run-{rows}")]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return int(done.stdout.splitlines()[-1])


def check_growth(folder: Path, rows: int) -> None:
    small, large = peak_bytes(folder, rows // 10), peak_bytes(folder, rows)  # shards of the same size
    print(f"driver: {small / 2**20:.0f} MiB for {rows // 10:,} rows, {large / 2**20:.0f} MiB for {rows:,}")
    assert large - small <= MOST_GROWTH_BYTES


def test_memory_of_the_driver_is_flat_over_twenty_thousand_rows(tmp_path: Path) -> None:
    check_growth(tmp_path, rows=20_000)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_memory_of_the_driver_is_flat_over_two_hundred_thousand_rows(tmp_path: Path) -> None:
    check_growth(tmp_path, rows=200_000)
