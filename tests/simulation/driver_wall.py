"""At how many GPUs the driver saturates: the real driver with simulated recognisers, in a process of its own.

    python -m tests.simulation.driver_wall WORK_DIR [--workers 50,100,200,400,800] [--rtfx 7700] [--coupled]

First every number of workers runs with a driver that is infinitely fast, which gives its CPU time per record, per
message and per simulated second. With `--coupled`, each runs once more with the clock charged by these costs, which
gives the utilisation of the GPUs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curate import Pipeline
from curate.engine import RunOptions
from curate.stages import Merge, Partition
from tests.bench.run_costs import SyntheticRecords, files_by_kind, memory_bytes
from tests.simulation.simulated_cluster import (
    DriverCost,
    RealTimeFactor,
    Sample,
    SimulatedExecutor,
    SimulatedRecogniser,
    SimulatedTransport,
    model_alone,
)

ROOT = Path(__file__).parents[2]
FIRST, LAST = 0.3, 0.8
"""The part of a phase in which all workers are busy, as shares of its messages."""


def steady(transport: SimulatedTransport) -> tuple[Sample, Sample]:
    """Return the state at the beginning and at the end of the part of a phase in which all workers are busy."""
    events = transport.samples[-1].events
    within = [sample for sample in transport.samples if FIRST * events <= sample.events <= LAST * events]
    return within[0], within[-1]


def simulate(records: int, run_dir: Path, executor: SimulatedExecutor, window: int, batch_audio_s: float) -> Any:
    """Run a pipeline that recognises synthetic records in a simulated cluster."""
    stages = [
        SyntheticRecords(records),
        Partition(max_records=window),
        SimulatedRecogniser(batch_audio_s).with_(workers=executor.workers, checkpoint=True),
    ]
    options = RunOptions(clock=executor.clock)
    return Pipeline("simulated", [*stages, Merge("out.jsonl")]).run(executor, run_dir=run_dir, options=options)


def measure(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the figures of one simulation, in a process of its own."""
    command = [sys.executable, "-m", "tests.simulation.driver_wall", "--one", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def one(given: argparse.Namespace) -> dict[str, Any]:
    """Simulate one cluster and return its figures."""
    workers = int(given.workers)
    service = RealTimeFactor(given.rtfx) if given.rtfx else model_alone
    cost = DriverCost(*map(float, given.cost.split(","))) if given.cost else None
    executor = SimulatedExecutor(workers, service, seed=given.seed, setup_s=0.0, cost=cost)
    records = workers * given.window * given.windows
    before = memory_bytes("VmRSS")
    result = simulate(records, given.work_dir, executor, given.window, given.batch_audio_s)
    assert result.summary["kept"] == records
    transport = executor.transports[0]
    begin, end = steady(transport)
    lasted_s, last = end.at_s - begin.at_s, transport.samples[-1]
    kinds = files_by_kind(given.work_dir)
    units = kinds["commits"][0] - 2
    ranges = sum(
        len(json.loads(path.read_bytes())["ranges"]) for path in (given.work_dir / "commits").glob("p0-*.json")
    )
    return {
        "workers": workers,
        "window": given.window,
        "records": records,
        "events": last.events,
        "simulated_s": round(last.at_s, 3),
        "driver_cpu_s": round(last.cpu_s, 3),
        "driver_per_simulated_s": (end.cpu_s - begin.cpu_s) / lasted_s,
        "us_a_record": 1e6 * (end.cpu_s - begin.cpu_s) / (end.records - begin.records),
        "us_an_event": 1e6 * (end.cpu_s - begin.cpu_s) / (end.events - begin.events),
        "records_an_event": (end.records - begin.records) / (end.events - begin.events),
        "records_per_simulated_s": (end.records - begin.records) / lasted_s,
        "gpu_utilisation": (end.busy_s - begin.busy_s) / lasted_s / workers,
        "units": units,
        "ranges_a_record": ranges / records,
        "commit_bytes_a_record": kinds["commits"][1] / records,
        "peak_bytes": memory_bytes(),
        "grown_bytes": memory_bytes() - before,
        "trace": executor.trace,
    }


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work_dir", type=Path)
    parser.add_argument("--workers", default="50,100,200,400,800")
    parser.add_argument("--window", type=int, default=2048)
    parser.add_argument("--windows", type=int, default=2, help="windows a worker")
    parser.add_argument("--batch-audio-s", type=float, default=1600.0)
    parser.add_argument("--rtfx", type=float, default=0.0, help="0: the model alone on an H200")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cost", default="", help="seconds of the driver a message, and a record")
    parser.add_argument("--coupled", action="store_true")
    parser.add_argument("--one", action="store_true")
    given = parser.parse_args(arguments)
    if given.one:
        print(json.dumps(one(given)))
        return
    for workers in given.workers.split(","):
        same = ["--window", str(given.window), "--windows", str(given.windows), "--rtfx", str(given.rtfx)]
        same += ["--workers", workers, "--batch-audio-s", str(given.batch_audio_s), "--seed", str(given.seed)]
        found = measure([str(given.work_dir / workers), *same])
        shutil.rmtree(given.work_dir / workers)
        print(json.dumps(found), flush=True)
        if given.coupled:
            cost = f"0,{found['us_a_record'] / 1e6}"
            found = measure([str(given.work_dir / workers), *same, "--cost", cost])
            shutil.rmtree(given.work_dir / workers)
            print(json.dumps({"coupled": found["gpu_utilisation"], **found}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
