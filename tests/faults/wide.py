"""A pipeline with all that a run directory can hold, to be killed, damaged and repaired in processes of its own.

    python -m tests.faults.wide EXECUTOR RUN_DIR LOG COUNT
    python -m tests.faults.wide repair RUN_DIR

It filters, fails, splits and joins records, writes shards and a manifest, and has five phases. The manifest and its
audio lie next to the run directory's parent folder. EXECUTOR may be `ray@ADDRESS`.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from curate import Gather, Pipeline, RecordStage, Reject, Resources
from curate.engine import repair_run
from curate.engine.durability import commit as commit_module
from curate.io.provenance import PROVENANCE
from curate.records import Record
from curate.stage import Joined
from curate.stages import Merge, NemoTarredWriter, Partition, ReadManifest
from tests.faults import durable
from tests.unit.engine.hearing import write_noise

FILES = 10
BATCH = 10
UNIT_BYTES = 6000


class Splits(RecordStage):
    """Makes up to three records of each, and drops some."""

    cardinality = "splits"

    def writes(self) -> tuple[str, ...]:
        return ("part",)

    def process_record(self, record: Record) -> Any:
        if record["x"] % 13 == 5:
            return Reject("thirteen")
        return [{**record, "part": part} for part in range(1 + record["x"] % 3)]


class Joins(Gather):
    """Makes one record again of the parts of each."""

    def writes(self) -> tuple[str, ...]:
        return ("parts",)

    def gather(self, records: Iterator[Record]) -> Iterator[Record | Joined]:
        for _, group in itertools.groupby(records, key=lambda record: record["x"]):
            parts = list(group)
            identity = str(parts[0]["_id"]).rpartition("/")[0]
            yield Joined({**parts[0], "_id": identity, "parts": len(parts)}, parts)


def write_input(folder: Path, count: int) -> Path:
    """Write short recordings and a manifest."""
    for number in range(FILES):
        write_noise(folder / f"{number}.flac", 0.05, rate_hz=8000, seed=number)
    rows = ({"audio_filepath": f"{x % FILES}.flac", "x": x, "text": f"utterance {x} " * 5} for x in range(count))
    (folder / "in.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder / "in.jsonl"


def pipeline(manifest: Path, log: Path, *, cpus: float = 1.0) -> Pipeline:
    cut = Partition(max_records=BATCH, by_length=False)
    works = durable.Works(str(log)).with_(checkpoint=True, workers=2, resources=Resources(cpus=cpus))
    stages = [
        ReadManifest(manifest),
        cut,
        works,
        Splits().with_(checkpoint=True),
        Joins(),
        cut.with_(name="cut_again"),
        works.with_(name="works_again"),
        Merge("out.jsonl"),
        NemoTarredWriter("set", shard_records=7),
    ]
    return Pipeline("wide", stages)


def live(arguments: Sequence[str]) -> None:
    """Run the pipeline, or repair its run directory, in this process."""
    if arguments[0] == "repair":
        repair_run(Path(arguments[1]))
        return
    name, run_dir, log, count = arguments
    commit_module.UNIT_BYTES = UNIT_BYTES
    made = pipeline(Path(run_dir).parents[1] / "in.jsonl", Path(log), cpus=3.0 if name.startswith("ray@") else 1.0)
    made.run(durable.executor(name), run_dir=run_dir, max_failures=int(count))


def results(run_dir: Path) -> dict[str, Any]:
    """Return what must be equal whatever has happened: published bytes, books, the ends of records."""
    from curate.engine import RunReader

    summary = json.loads((run_dir / "summary.json").read_bytes())
    reader = RunReader(run_dir)
    folder = run_dir / "set"
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != PROVENANCE)
    names = ("records_in", "children", "kept", "filtered", "quarantined", "joins")
    return {
        "out": (run_dir / "out.jsonl").read_bytes(),
        "set": {str(path.relative_to(folder)): path.read_bytes() for path in files},
        "books": {name: summary.get(name) for name in names},
        "filtered": sorted((note["_id"], note["stage"], note["reason"]) for note in reader.filtered()),
        "failed": sorted((note["_id"], note["stage"], note["code"]) for note in reader.failed()),
    }


def damage(run_dir: Path, lot: random.Random) -> str:
    """Damage a file of the run directory that is drawn by lot, and say how; "" if there is none yet."""
    kinds = ("data", "filtered", "quarantine", "commits", "copies", "shards", "run.json")
    files = {
        kind: [path for path in sorted((run_dir / kind).rglob("*")) if path.is_file() and "redo-" not in path.name]
        for kind in kinds[:-1]
    }
    files["copies"] = [path for path in files["copies"] if path.name != "run.json"]  # without both, only a run helps
    if not files["commits"]:
        return ""
    files["run.json"] = [run_dir / "run.json"]
    kind = lot.choice([kind for kind in kinds if files[kind]])
    path = lot.choice(files[kind])
    how = lot.choice(("flip", "cut", "unlink"))
    content = bytearray(path.read_bytes())
    path.unlink()  # published files may be links to it
    if how == "flip" and content:
        content[lot.randrange(len(content))] ^= 1
        path.write_bytes(content)
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    return f"{how} {path.relative_to(run_dir)}"


if __name__ == "__main__":
    from tests.faults import wide  # the stages' classes are this module's, not __main__'s

    wide.live(sys.argv[1:])
