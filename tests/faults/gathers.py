"""A pipeline of all stages that order, sample and join a corpus, to be killed and measured in a process of its own.

    python -m tests.faults.gathers EXECUTOR RUN_DIR COUNT [STAGE]

With STAGE, that gather is the only one, commit units have their usual size, and the peak of the driver's memory is
printed, in kB. EXECUTOR may be `ray@ADDRESS`.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curate import Pipeline
from curate.engine.durability import commit as commit_module
from curate.io import failpoints
from curate.stage import Stage
from curate.stages import (
    Balance,
    Deduplicate,
    JoinTable,
    Merge,
    Partition,
    RateOutliers,
    ReadManifest,
    Sample,
    SetColumns,
    Shuffle,
    Sort,
    SplitDataset,
    TextRates,
)

ROOT = Path(__file__).parents[2]
UNIT_BYTES = 4000
COUNT = 120
OUTPUTS = ("out.jsonl", "out.parquet")
WORDS = ["the", "cat", "sat", "on", "a", "mat", "in", "our", "garden", "while", "it", "was", "raining"]


def make_inputs(folder: Path, count: int) -> None:
    """Write a manifest, a table of speakers and a block list."""
    draw = random.Random(count)
    speakers, text = max(count // 20, 5), ""
    words = [*WORDS, *(first + second for first in WORDS for second in WORDS)]  # so that few texts are alike
    with (folder / "in.jsonl").open("w") as file:
        for number in range(count):
            row = {
                "n": number,
                "text": {7: f"{text} too", 3: text}.get(number % 8)
                or " ".join(draw.choices(words, k=draw.randint(3, 15))),
                "duration": round(draw.uniform(1, 12), 3),
                "lang": draw.choices(["en", "de", "cy"], [6, 3, 1])[0],
                "speaker": draw.randrange(speakers),
            }
            text = row["text"]
            file.write(f"{json.dumps(row)}\n")
    genders = (f"{speaker},{'fm'[speaker % 2]}\n" for speaker in range(speakers))
    (folder / "speakers.csv").write_text("speaker,gender\n" + "".join(genders))
    (folder / "blocked.csv").write_text("n\n" + "".join(f"{number}\n" for number in range(0, count, 25)))


def gathers(folder: Path, count: int) -> dict[str, Stage]:
    hours = count * 6.5 / 3600
    return {
        "deduplicate": Deduplicate(audio="none", max_per_text=1),
        "split_dataset": SplitDataset({"dev": "15%", "test": "15%"}, audio="none", tolerance=1.0, max_dropped=1.0),
        "join_table": JoinTable(folder / "speakers.csv", ["speaker"]),
        "anti": JoinTable(folder / "blocked.csv", ["n"], how="anti").with_(name="takedown"),
        "rate_outliers": RateOutliers(by=["lang"], min_records=4),
        "sort": Sort(["gender", "-duration"]) if count < 1000 else Sort(["lang", "-duration"]),
        "shuffle": Shuffle(seed=3),
        "sample": Sample(hours=hours / 4, by=["lang"]),
        "balance": Balance(["lang"], caps={"speaker": hours / 10}),
    }


def pipeline(folder: Path, count: int, only: str = "") -> Pipeline:
    chosen = gathers(folder, count)
    middle = [chosen[only]] if only else list(chosen.values())
    stages = [
        ReadManifest(folder / "in.jsonl"),
        Partition(max_records=20 if not only else 8192, by_length=False),
        TextRates(),
        SetColumns(columns={"key": "concat(speaker, '/', n)"}),
        *middle,
        *(Merge(name) for name in (OUTPUTS if not only else OUTPUTS[:1])),
    ]
    return Pipeline("gathers", stages)


def start(executor: str, run_dir: Path, count: int, only: str = "", failpoint: str = "") -> tuple[int, str]:
    """Run the pipeline in a process of its own; return its exit status and what it printed."""
    environment = {**os.environ, "CURATE_FAILPOINT": failpoint, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "tests.faults.gathers",
        executor,
        str(run_dir),
        str(count),
        *([only] if only else []),
    ]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=3000, check=False
    )
    return done.returncode, done.stdout


def results(run_dir: Path) -> dict[str, Any]:
    """Return the parts that must be equal wherever the run went: published bytes, filtered records, the books."""
    summary = json.loads((run_dir / "summary.json").read_bytes())
    found: dict[str, Any] = {name: (run_dir / name).read_bytes() for name in OUTPUTS}
    found["books"] = {name: summary[name] for name in ("records_in", "kept", "filtered", "quarantined")}
    found["filtered"] = sorted(_reasons(run_dir))
    return found


def _reasons(run_dir: Path) -> Iterator[tuple[str, str, str]]:
    from curate.engine import RunReader

    for note in RunReader(run_dir).filtered():
        yield note["_id"], note["stage"], note["reason"]


def live(executor: str, run_dir: str, count: str, only: str = "") -> None:
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    place: Any = executor
    if executor.startswith("ray@"):
        from curate.executors.ray import RayExecutor

        place = RayExecutor(address=executor.removeprefix("ray@"))
    if not only:
        commit_module.UNIT_BYTES = UNIT_BYTES
    pipeline(Path(run_dir).parent, int(count), only).run(place, run_dir=run_dir)
    if only:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        assert found is not None
        print(found[1])


if __name__ == "__main__":
    live(*sys.argv[1:])
