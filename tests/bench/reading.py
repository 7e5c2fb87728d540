"""A manifest through a reader and a filter, alone or in a run, or through a plain loop, in a process of its own.

    python -m tests.bench.reading PATH WORK_DIR read|run|loop

Prints the CPU seconds without imports, the peak of memory in MB, and the number of records kept.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from curate import AudioBatch, Pipeline
from curate.io.rows import encode_row
from curate.records import take
from curate.stages import Merge, QualityFilter, ReadManifest

ROOT = Path(__file__).parents[2]
FORMS = ("lines", "array", "tsv", "csv", "parquet")


def write_manifest(form: str, path: Path, count: int) -> Path:
    """Write a manifest of usual lines, and return its path."""
    rows = (
        {"audio_filepath": f"clips/{number:07}.wav", "duration": 1.5 + number % 7, "text": f"{number} of one two three"}
        for number in range(count)
    )
    if form == "parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(list(rows)), path)
        return path
    with path.open("w") as file:
        if form in ("lines", "array"):
            file.write("[" if form == "array" else "")
            for number, row in enumerate(rows):
                file.write((",\n" if form == "array" and number else "") + json.dumps(row))
                file.write("\n" if form == "lines" else "")
            file.write("]" if form == "array" else "")
        else:
            mark = "\t" if form == "tsv" else ","
            file.write(mark.join(("audio_filepath", "duration", "text")) + "\n")
            file.writelines(mark.join(map(str, row.values())) + "\n" for row in rows)
    return path


def measure(path: Path, work_dir: Path, side: str) -> dict[str, float]:
    """Run one side; return its `cpu_s`, `peak_mb` and `kept`."""
    command = [sys.executable, "-m", "tests.bench.reading", str(path), str(work_dir), side]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _loop(path: Path, out: Path) -> int:
    kept = 0
    with path.open() as source, out.open("w") as file:
        for line in source:
            row = json.loads(line)
            if row["duration"] <= 5:
                file.write(json.dumps(row) + "\n")
                kept += 1
    return kept


def _read(path: Path, out: Path) -> int:
    stage = QualityFilter("duration <= 5")
    stage.setup()
    records: Iterator[Any] = ReadManifest(str(path)).read()
    kept = 0
    with out.open("wb") as file:
        while data := take(records, 1024):
            for record in cast("AudioBatch", stage.process(AudioBatch(data))).data:
                file.write(encode_row(record))
                kept += 1
    return kept


def _run(path: Path, run_dir: Path) -> int:
    stages: list[Any] = [ReadManifest(str(path)), QualityFilter("duration <= 5"), Merge("out.jsonl")]
    return Pipeline("reading", stages).run(run_dir=run_dir).summary["kept"]


def main(path: str, work_dir: str, side: str) -> None:
    place = Path(work_dir)
    place.mkdir(exist_ok=True)
    if side == "run":  # imports what a run needs
        _run(write_manifest("lines", place / "one.jsonl", 1), place / "first")
    began = time.process_time()
    kept = {"loop": _loop, "read": _read, "run": _run}[side](Path(path), place / f"{side}.jsonl")
    cpu_s = time.process_time() - began
    peak_kb = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
    print(json.dumps({"cpu_s": cpu_s, "peak_mb": peak_kb / 1024, "kept": kept}))


if __name__ == "__main__":
    main(*sys.argv[1:])
