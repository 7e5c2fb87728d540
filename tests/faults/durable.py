"""A pipeline to be killed, and how it is run in a process of its own.

    python -m tests.faults.durable EXECUTOR RUN_DIR LOG COUNT
    python -m tests.faults.durable nursery

The second form imports everything once, and forks a process for every life that is asked for on its standard input.
EXECUTOR may be `ray@ADDRESS`; such a life is a fresh process, because Ray's library must not be forked.

Every record that a stage works on is a line in the log, so that what is done twice can be counted.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate import AudioBatch, Gather, Pipeline, ProcessingStage, RecordError, RecordStage
from curate.engine.durability import commit as commit_module
from curate.io import failpoints
from curate.records import Record
from curate.stages import Merge, Partition, ReadRecords
from tests.conftest import worker_processes
from tests.shuffled_executor import ShuffledExecutor

COUNT = 240
BATCH = 10
WORKERS = 2
UNIT_BYTES = 3000
OUTPUTS = ("out.jsonl", "out.jsonl.gz", "out.parquet")
ROOT = Path(__file__).parents[2]

EXECUTORS = ("local", "multiprocessing")
"""Executors that are killed at every place; on Ray, where a life takes many seconds, at some."""


@dataclass
class Works(ProcessingStage):
    """Writes every record that it works on into the log."""

    log: str
    name = "works"

    tuning = frozenset({"log"})

    def writes(self) -> tuple[str, ...]:
        return ("y",)

    def process(self, batch: AudioBatch) -> AudioBatch:
        with Path(self.log).open("ab", buffering=0) as log:
            log.write(b"".join(f"{self.name} {record['_id']}\n".encode() for record in batch.data))
        for record in batch.data:
            if record["x"] % 17 == 3:
                batch.fail(record, RecordError("truncated", "half of it is missing"))
            record["y"] = record["x"] ** 2
        batch.data = [record for record in batch.data if record["x"] % 17 != 3]
        return batch


class Splits(RecordStage):
    cardinality = "splits"

    def writes(self) -> tuple[str, ...]:
        return ("part",)

    def process_record(self, record: Record) -> Any:
        return [{**record, "part": part} for part in range(1 + record["x"] % 2)]


class Backwards(Gather):
    def writes(self) -> tuple[str, ...]:
        return ()

    def gather(self, records: Iterator[Record]) -> Iterator[Record]:
        yield from reversed(list(records))


def pipeline(log: Path, count: int = COUNT) -> Pipeline:
    cut = Partition(max_records=BATCH, by_length=False)
    stages = [
        ReadRecords([{"x": x, "text": f"utterance {x} " * 5} for x in range(count)]),
        cut,
        Works(str(log)).with_(checkpoint=True, workers=WORKERS),
        Splits(),
        Backwards(),
        cut.with_(name="cut_again"),
        Works(str(log)).with_(name="works_again", workers=WORKERS),
        *(Merge(name) for name in OUTPUTS),
    ]
    return Pipeline("durable", stages)


def executor(name: str) -> Any:
    """Return an executor whose workers have few batches each, so that little is in flight and little done again."""
    if name == "multiprocessing":
        from curate.executors.multiprocessing import MultiprocessingTransport

        MultiprocessingTransport.max_in_flight = 2
    if name.startswith("ray@"):
        from curate.executors.ray import RayExecutor
        from curate.executors.ray_transport import RayTransport

        RayTransport.max_in_flight = 2
        return RayExecutor(address=name.removeprefix("ray@"))
    return ShuffledExecutor(seed=3) if name == "shuffled" else name


def run(executor_name: str, run_dir: Path, log: Path, failpoint: str = "", count: int = COUNT) -> int:
    """Run the pipeline in a process of its own and return its exit status."""
    if executor_name.startswith("ray@"):
        return start([executor_name, str(run_dir), str(log), str(count)], failpoint).wait()
    return Life(executor_name, run_dir, log, failpoint, count).end()


class Life:
    """One life of a run, in a process of its own.

    Args:
        module: the module whose `live` is called.
    """

    def __init__(
        self,
        executor_name: str,
        run_dir: Path,
        log: Path,
        failpoint: str = "",
        count: int = COUNT,
        module: str = "tests.faults.durable",
    ) -> None:
        nursery = _nursery()
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        self._said = nursery.stdout
        asked = json.dumps([failpoint, module, executor_name, str(run_dir), str(log), str(count)])
        nursery.stdin.write(asked.encode() + b"\n")
        nursery.stdin.flush()
        self.pid = int(self._said.readline())

    def ended_within(self, seconds: float) -> bool:
        return bool(select.select([self._said], [], [], seconds)[0])

    def end(self) -> int:
        """Wait for the end and return the exit status."""
        return int(self._said.readline())

    def workers(self) -> list[int]:
        """Return the processes that the driver has started."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/children")
        try:
            return sorted(int(pid) for task in tasks for pid in task.read_text().split())
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            return []


@functools.cache
def _nursery() -> subprocess.Popen[bytes]:
    nursery = start(["nursery"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    atexit.register(nursery.kill)
    return nursery


def nurse() -> None:
    """Fork a life for every line of the input; say how each has ended."""
    import pyarrow.parquet  # noqa: F401 (so that no life has to)

    import curate.engine.run
    import curate.plugin  # noqa: F401

    for line in sys.stdin:
        failpoint, module, *arguments = json.loads(line)
        child = os.fork()
        if not child:
            failpoints.arm(failpoint)
            sys.stdout = sys.stderr
            try:
                importlib.import_module(module).live(arguments)
            except BaseException:  # noqa: BLE001 (whatever it is, the nursery lives on)
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def start(arguments: list[str], failpoint: str = "", **options: Any) -> subprocess.Popen[Any]:
    environment = {**os.environ, "CURATE_FAILPOINT": failpoint, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.faults.durable", *arguments]
    return subprocess.Popen(command, env=environment, cwd=ROOT, **options)


def processed(log: Path) -> Counter[str]:
    """Return how often each record was worked on; a line that was cut off by a kill counts."""
    return Counter(log.read_text().splitlines()) if log.exists() else Counter()


def rework(log: Path) -> int:
    """Return how much was done more than once."""
    return sum(count - 1 for count in processed(log).values())


def results(run_dir: Path) -> dict[str, Any]:
    """Return what must be equal however often the run died: the published bytes, the failures, the books."""
    summary = json.loads((run_dir / "summary.json").read_bytes())
    found: dict[str, Any] = {name: (run_dir / name).read_bytes() for name in OUTPUTS}
    found["books"] = {name: summary[name] for name in ("records_in", "children", "kept", "filtered", "quarantined")}
    found["failures"] = summary["failures"]
    notes = [json.loads(line) for path in (run_dir / "quarantine").iterdir() for line in path.open()]
    found["quarantine"] = sorted((note["_id"], note["stage"], note["code"]) for note in notes)
    return found


def largest_unit(run_dir: Path) -> int:
    """Return how many records the largest commit unit holds, of those phases whose work is in the log."""
    commits = [json.loads(path.read_bytes()) for path in (run_dir / "commits").glob("p[02]-*.json")]
    return max(commit["account"]["books"].get("records_in", 0) for commit in commits)


def killed(status: int) -> bool:
    return status == -signal.SIGKILL


def kill_somewhere(note: Path) -> None:
    """SIGKILL a worker that is a child of an actor and not of the driver, and note that there was one."""
    worker = worker_processes()[0]
    os.kill(int(worker.partition(":")[0]), signal.SIGKILL)
    with note.open("a") as file:
        file.write(f"{worker}\n")


def live(arguments: Sequence[str]) -> None:
    """Run the pipeline in this process."""
    name, run_dir, log, count = arguments
    if name.startswith("ray@"):
        actions: Any = failpoints._ACTIONS
        actions["kill_child"] = functools.partial(kill_somewhere, Path(f"{log}.killed"))
        failpoints.arm(os.environ[failpoints.VARIABLE])
    commit_module.UNIT_BYTES = UNIT_BYTES
    pipeline(Path(log), int(count)).run(executor(name), run_dir=run_dir, max_failures=int(count))


if __name__ == "__main__":
    from tests.faults import durable  # the stages' classes are this module's, not __main__'s

    if sys.argv[1:] == ["nursery"]:
        durable.nurse()
    else:
        durable.live(sys.argv[1:])
