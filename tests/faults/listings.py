"""A run over a folder or a pattern, to be killed in a process of its own while the input gains files.

    python -m tests.faults.listings EXECUTOR INPUT RUN_DIR [grown] [TEMPLATE]

INPUT is a folder of recordings, or a pattern of manifests. TEMPLATE has the column `part` in braces, which is the first
folder of a recording: the records are published there, and not in one file.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from curate import Pipeline
from curate.engine.durability import commit as commit_module
from curate.engine.protocol.options import RunOptions
from curate.io import failpoints
from curate.stages import FolderReader, Merge, Partition, ReadManifest, SetColumns

ROOT = Path(__file__).parents[2]


def start(
    executor: str,
    given: str,
    run_dir: Path,
    *more: str,
    failpoint: str = "",
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Run it in a process of its own; return its exit status and what it printed."""
    variables = {**os.environ, "CURATE_FAILPOINT": failpoint, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.listings", executor, given, str(run_dir), *more],
        env={**variables, **(environment or {})},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout


def live(executor: str, given: str, run_dir: str, *more: str) -> None:
    from loguru import logger

    logger.enable("curate")
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    commit_module.UNIT_BYTES = 250
    template = next((word for word in more if "{" in word), "")
    pattern = "{part}/{_}" if template else ""
    source = ReadManifest(given) if "*" in given else FolderReader(given, pattern=pattern)
    merge = Merge(template or "out.jsonl")
    stages = [source, Partition(max_records=4), SetColumns({"known": "text"}), merge]
    Pipeline("listed", stages).run(executor, run_dir=run_dir, options=RunOptions(grown="grown" in more))


if __name__ == "__main__":
    live(*sys.argv[1:])
