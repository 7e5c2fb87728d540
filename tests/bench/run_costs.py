"""One run over synthetic records, in a process of its own, with what it costs the driver, the disk and memory.

    python -m tests.bench.run_costs RECORDS RUN_DIR [--executor ray] [--hops 3] [--gather shuffle] [--unit-bytes 65536]

Prints one JSON object. CPU seconds are those after the imports; memory is `VmHWM`, because `ru_maxrss` begins with the
memory of the process that started this one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate import Pipeline, RecordError, Resources, processing_stage
from curate.engine import RunOptions
from curate.engine.durability.commit import Commit, CommitBuffer
from curate.engine.durability.directory_store import DirectoryStore
from curate.records import Record
from curate.stage import Source, Stage
from curate.stages import Deduplicate, Merge, Partition, QualityFilter, Shuffle, Sort

ROOT = Path(__file__).parents[2]
FAILING = 1000
"""Every so many records fail, as one of a thousand recordings of a real corpus does."""

SPEAKERS = 5000
UTTERANCE_S = 8.0
"""The mean length of an utterance, of which the figures for hours of speech are made."""

_WORDS = ["the", "quick", "brown", "fox", "had", "seven", "good", "reasons", "to", "leave", "before", "winter", "came"]
_WORDS += ["and", "nothing", "more", "was", "in", "his", "mind"]
_SENTENCES = [" ".join(_WORDS[(start * step + start) % 20] for step in range(1, 19)) for start in range(997)]


@dataclass
class SyntheticRecords(Source):
    """As many rows as a manifest of utterances of 8 s has, about, made from their numbers.

    Args:
        records: how many.
    """

    records: int

    def read(self, after: str | None = None) -> Iterator[Record]:
        start = 0 if after is None else int(after.rpartition(":")[2])
        for number in range(start, self.records):
            yield {
                "_id": f"synthetic:{number + 1}",
                "audio_filepath": f"clips/{number // 1000:06}/{number:09}.wav",
                "duration": 1.0 + number * 7919 % 1400 / 100,
                "speaker": f"speaker-{number * 104_729 % SPEAKERS:04}",
                "text": f"{_SENTENCES[number % 997]} {number}",
            }

    def count(self) -> int:
        return self.records


@processing_stage(name="words", reads=["text"], writes=["words"])
def count_words(record: dict) -> dict:
    """Count words; fails on every thousandth record."""
    if record["_id"].endswith("000"):
        raise RecordError("bad_value", "the last digits are zeros")
    record["words"] = len(record["text"].split())
    return record


@processing_stage(name="again", reads=["words"], writes=["words"])
def count_again(record: dict) -> dict:
    """Do next to nothing, in a hop of its own."""
    record["words"] += 0
    return record


GATHERS: dict[str, Callable[[], Stage]] = {
    "shuffle": lambda: Shuffle(seed=1),
    "sort": lambda: Sort(by="speaker"),
    "deduplicate": lambda: Deduplicate(audio="none"),
}


def pipeline(records: int, hops: int = 1, gather: str = "") -> Pipeline:
    """Return a pipeline of two phases: stages that end with a checkpoint; a filter that keeps nine of ten, and `merge`.

    Args:
        records: how many records.
        hops: how many hops the first phase has.
        gather: a stage before the filter that sees all records; "": none.
    """
    first = [count_words, *(count_again.with_(name=f"again{n}") for n in range(1, hops))]
    workers = [
        stage.with_(checkpoint=n == hops - 1, resources=Resources(cpus=0.1 * (n + 1))) for n, stage in enumerate(first)
    ]
    last = [GATHERS[gather]()] if gather else []
    kept = QualityFilter("duration <= 13.6")
    return Pipeline(
        "costs", [SyntheticRecords(records), Partition(by_length=False), *workers, *last, kept, Merge("out.jsonl")]
    )


def memory_bytes(name: str = "VmHWM") -> int:
    """Return the peak of this process's memory."""
    return int(Path("/proc/self/status").read_text().partition(f"{name}:")[2].split()[0]) * 1024


def files_by_kind(run_dir: Path) -> dict[str, list[int]]:
    """Return, for each folder of a run directory and for the files in it, how many files there are and their bytes."""
    found: dict[str, list[int]] = {}
    for path in run_dir.rglob("*"):
        if path.is_file():
            inside = path.relative_to(run_dir).parts
            kind = inside[0] if len(inside) > 1 else "published" if path.name == "out.jsonl" else "run"
            files, size = found.get(kind, [0, 0])
            found[kind] = [files + 1, size + path.stat().st_size]
    return dict(sorted(found.items()))


def measure(records: int, run_dir: Path, **options: Any) -> dict[str, Any]:
    """Return the costs of a run, in a process of its own; the options are those of the command line."""
    named = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "tests.bench.run_costs", str(records), str(run_dir), *named]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _counted_syncs() -> Callable[[], int]:
    """Count the calls of `os.fsync` from now on."""
    calls, real = [0], os.fsync

    def counting(descriptor: int) -> None:
        calls[0] += 1
        real(descriptor)

    os.fsync = counting
    return lambda: calls[0]


def _measured_units() -> list[int]:
    """Return a list that gets the size of every unit that is committed from now on, in bytes of the driver's memory."""
    sizes: list[int] = []
    real = DirectoryStore.commit

    def measuring(self: DirectoryStore, phase: int, unit: CommitBuffer, *rest: Any, **named: Any) -> Commit:
        sizes.append(unit.bytes)
        return real(self, phase, unit, *rest, **named)

    DirectoryStore.commit = measuring
    return sizes


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("records", type=int)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--executor", default="local")
    parser.add_argument("--hops", type=int, default=1)
    parser.add_argument("--gather", default="")
    parser.add_argument("--unit-bytes", type=int)
    parser.add_argument("--reopen", type=int, default=-1, help="reopen a phase of a finished run, and read it again")
    given = parser.parse_args(arguments)
    if given.reopen >= 0:
        (given.run_dir / "commits" / f"complete-{given.reopen}.json").unlink()
    syncs, sizes = _counted_syncs(), _measured_units()
    run = pipeline(given.records, given.hops, given.gather)
    base, cpu_s, wall_s = memory_bytes("VmRSS"), time.process_time(), time.monotonic()
    result = run.run(given.executor, run_dir=given.run_dir, options=RunOptions(unit_bytes=given.unit_bytes))
    cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - wall_s
    peak = memory_bytes()
    workers = resource.getrusage(resource.RUSAGE_CHILDREN)
    units = len(list((given.run_dir / "commits").glob("p*.json")))
    kinds = files_by_kind(given.run_dir)
    described = {
        "records": given.records,
        **{name: result.summary[name] for name in ("kept", "filtered", "quarantined")},
        "unit_bytes": given.unit_bytes,
        "units": units,
        "unit_sizes": {"sum": sum(sizes), "largest": max(sizes, default=0)},
        "driver_cpu_s": round(cpu_s, 3),
        "workers_cpu_s": round(workers.ru_utime + workers.ru_stime, 3),
        "wall_s": round(wall_s, 3),
        "base_bytes": base,
        "peak_bytes": peak,
        "fsyncs": syncs(),
        "files": sum(files for files, _ in kinds.values()),
        "bytes": sum(size for _, size in kinds.values()),
        "kinds": kinds,
    }
    print(json.dumps(described))


if __name__ == "__main__":
    main(sys.argv[1:])
