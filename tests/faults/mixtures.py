"""A run over a mixture of inputs, to be killed and measured in a process of its own.

    python -m tests.faults.mixtures EXECUTOR FOLDER RUN_DIR

FOLDER has one manifest for each partition. The peak of the driver's memory is printed, in kB. EXECUTOR may be
`ray@ADDRESS`.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from curate import Pipeline
from curate.engine.durability import commit as commit_module
from curate.io import failpoints
from curate.stages import Merge, MixReader, Partition, ReadManifest, TextRates

ROOT = Path(__file__).parents[2]
UNIT_BYTES = 4000
MANY = 100
"""From this number of partitions on, commit units have their usual size."""


def make_inputs(folder: Path, partitions: int, lines: int) -> None:
    numbers = random.Random(partitions)
    folder.mkdir()
    for partition in range(partitions):
        rows = (
            {"duration": round(numbers.uniform(1, 5 + 10 * (partition % 3)), 2), "text": "one two three " * 5, "n": n}
            for n in range(lines)
        )
        (folder / f"p{partition:04}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def start(executor: str, folder: Path, run_dir: Path, failpoint: str = "") -> tuple[int, str]:
    """Run the mixture in a process of its own; return its exit status and what it printed."""
    environment = {**os.environ, "CURATE_FAILPOINT": failpoint, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.faults.mixtures", executor, str(folder), str(run_dir)]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout


def live(executor: str, folder: str, run_dir: str) -> None:
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    place: Any = executor
    if executor.startswith("ray@"):
        from curate.executors.ray import RayExecutor

        place = RayExecutor(address=executor.removeprefix("ray@"))
    paths = sorted(Path(folder).glob("*.jsonl"))
    if len(paths) < MANY:
        commit_module.UNIT_BYTES = UNIT_BYTES
    sources = [ReadManifest(str(path), dataset_name=path.stem) for path in paths]
    weights = {path.stem: 1.0 + number % 4 for number, path in enumerate(paths)}
    stop = {"hours": 2.0} if len(paths) < MANY else "all"
    mix = MixReader(sources, weights=weights, stop=stop)
    stages = [mix, Partition(max_records=50, by_length=False), TextRates(), Merge("out.jsonl")]
    Pipeline("mixture", stages).run(place, run_dir=run_dir)
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    print(found[1])


if __name__ == "__main__":
    live(*sys.argv[1:])
