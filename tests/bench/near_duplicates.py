"""Near duplicates of a manifest, found by curate or by datatrove, in a process of its own.

    python near_duplicates.py {curate,datatrove} MANIFEST FOLDER

prints wall time, CPU time and memory as JSON. datatrove needs an interpreter that has it, and nothing of this package:

    python -m venv /tmp/datatrove
    /tmp/datatrove/bin/pip install --no-deps datatrove
    /tmp/datatrove/bin/pip install dill fsspec huggingface-hub humanize loguru multiprocess numpy tqdm orjson regex \
        "xxhash<4" spacy nltk tokenizers
    CURATE_DATATROVE_PYTHON=/tmp/datatrove/bin/python make bench
"""

from __future__ import annotations

import importlib
import json
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

WORKERS = 2


def by_curate(manifest: Path, folder: Path) -> None:
    """Mark near duplicates in `run/out.jsonl`, by a run on two worker processes."""
    from curate import Pipeline
    from curate.stages import Deduplicate, Merge, Partition, ReadManifest

    stages = [
        ReadManifest(str(manifest)),
        Partition(by_length=False),
        Deduplicate(audio="none", min_words=1),
        Merge("out.jsonl"),
    ]
    Pipeline("near", stages).run("multiprocessing", run_dir=folder / "run")


def by_datatrove(manifest: Path, folder: Path) -> None:
    """Leave near duplicates out by datatrove's four steps with its default MinHash, on two processes."""
    minhash: Any = importlib.import_module("datatrove.pipeline.dedup.minhash")
    pipeline: Any = importlib.import_module("datatrove.executor").LocalPipelineExecutor
    reader: Any = importlib.import_module("datatrove.pipeline.readers").JsonlReader
    writer: Any = importlib.import_module("datatrove.pipeline.writers.jsonl").JsonlWriter
    config = minhash.MinhashConfig()
    parts = folder / "parts"
    parts.mkdir()
    with manifest.open("rb") as lines:  # one file a process is how datatrove divides its work
        files = [(parts / f"{number}.jsonl").open("wb") for number in range(WORKERS)]
        for number, line in enumerate(lines):
            files[number % WORKERS].write(line)
        for file in files:
            file.close()
    data, signatures, buckets, removed, kept = (
        str(folder / name) for name in ("parts", "signatures", "buckets", "removed", "kept")
    )
    steps: list[tuple[list[Any], int]] = [
        ([reader(data), minhash.MinhashDedupSignature(output_folder=signatures, config=config)], WORKERS),
        (
            [minhash.MinhashDedupBuckets(input_folder=signatures, output_folder=buckets, config=config)],
            config.num_buckets,
        ),
        ([minhash.MinhashDedupCluster(input_folder=buckets, output_folder=removed, config=config)], 1),
        ([reader(data), minhash.MinhashDedupFilter(input_folder=removed), writer(kept, compression=None)], WORKERS),
    ]
    for number, (stages, tasks) in enumerate(steps):
        log = str(folder / f"log{number}")
        # fork: its default is slower, and hides what its workers use
        pipeline(pipeline=stages, tasks=tasks, workers=min(tasks, WORKERS), logging_dir=log, start_method="fork").run()


def main(program: str, manifest: str, folder: str) -> None:
    work = {"curate": by_curate, "datatrove": by_datatrove}[program]
    began = time.monotonic()
    work(Path(manifest), Path(folder))
    wall_s = time.monotonic() - began
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert peak is not None
    print(
        json.dumps(
            {
                "wall_s": wall_s,
                "cpu_s": sum(each.ru_utime + each.ru_stime for each in used),
                "driver_mb": int(peak[1]) / 1024,
                "worker_mb": used[1].ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
