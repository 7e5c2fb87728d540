"""What executors cost beside what they are made of: process pools, bare Ray actors, a plain loop, a bound.

Start-up is left out: what a record costs is the difference between a long and a short run, over the records between.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import trivial_stages
from trivial_stages import STAGES, all_three, all_three_of_many, spin, spinning

from curate import Pipeline, Resources
from curate.executors.multiprocessing import MultiprocessingExecutor
from curate.executors.ray import RayExecutor
from curate.records import Record
from curate.stage import Source
from curate.stages import Partition, ReadRecords

pytestmark = pytest.mark.bench

SHORT, LONG = 4_000, 44_000


RECORDS: list[Record] = [{"x": x, "text": f"utterance {x}", "duration": 1.5} for x in range(LONG)]
NAMED: list[Record] = [{"_id": f"rows:{x}", **record} for x, record in enumerate(RECORDS)]


@dataclass
class Rows(Source):
    """The records, from memory. `ReadRecords` would pickle them besides, to know them again after a crash."""

    length: int

    def read(self, after: str | None = None) -> Iterator[Record]:
        return iter(NAMED[: self.length])  # workers have copies of their own


def ours(executor: Any, count: int, chunk: int, workers: int = 2, stages: Any = STAGES) -> None:
    records = Rows(count), Partition(max_records=chunk, by_length=False)
    result = Pipeline("bench", [*records, *(stage.with_(workers=workers) for stage in stages)]).run(executor)
    assert result.summary["kept"] == count


def pool(count: int, chunk: int, function: Callable[[Record], Record] = all_three) -> None:
    with multiprocessing.get_context("fork").Pool(2) as workers:
        assert len(list(workers.imap(function, RECORDS[:count], chunksize=chunk))) == count


def seconds(function: Callable[..., object], *arguments: Any) -> float:
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def each_us(*runs: Callable[[int], None], rounds: int = 15) -> list[float]:
    """Return the microseconds that one more record takes: what a long run takes more than a short one, the median of
    many pairs. The best of each would be the luck of two moments, since a pool has good and bad ones.

    The runs take turns, so that a machine that is slow for a while is slow for all of them.
    """
    pairs: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, found in zip(runs, pairs, strict=True):
            short_s, long_s = seconds(run, SHORT), seconds(run, LONG)
            found.append((long_s - short_s) / (LONG - SHORT) * 1e6)
    return [statistics.median(found) for found in pairs]


@pytest.mark.parametrize("chunk", [64, 1])
def test_multiprocessing_against_a_pool(chunk: int) -> None:
    executor = MultiprocessingExecutor()
    mine, theirs = each_us(lambda count: ours(executor, count, chunk), lambda count: pool(count, chunk))
    print(
        f"\nmultiprocessing, {chunk} a batch: {mine / theirs:.2f} times Pool.imap ({mine:.1f} against {theirs:.1f} µs)"
    )
    assert mine <= 1.25 * theirs


def test_speed_up_on_two_cores() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    executor = MultiprocessingExecutor()

    mine, theirs = each_us(
        lambda count: ours(executor, count // 8, 16, stages=[spinning]),
        lambda count: pool(count // 8, 16, spin),
        rounds=5,
    )
    each = f"({mine * 8:.0f} against {theirs * 8:.0f} µs)"
    print(f"\na stage of more than 1 ms: {theirs / mine:.3f} of the speed of a bare pool {each}")
    assert theirs / mine >= 0.95


def test_ray_against_bare_actors(ray_cluster: Any) -> None:
    import ray

    class Bare:
        def work(self, records: list[Record]) -> list[Record]:
            return all_three_of_many(records)

    def bare(count: int) -> None:
        actors = [ray.remote(Bare).options(runtime_env=environment).remote() for _ in range(2)]
        records, done = RECORDS[:count], 0
        queues: list[deque[Any]] = [deque(), deque()]
        for number, start in enumerate(range(0, count, 64)):
            queue = queues[number % 2]
            if len(queue) == 8:
                done += len(ray.get(queue.popleft()))
            queue.append(actors[number % 2].work.remote(records[start : start + 64]))
        done += sum(len(ray.get(ref)) for queue in queues for ref in queue)
        assert done == count

    environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}}
    assert trivial_stages.all_three({"x": 1})["c"] == 3
    executor = RayExecutor()
    mine, theirs = each_us(lambda count: ours(executor, count, 64), bare, rounds=5)
    print(f"\nray, 64 a batch: {mine / theirs:.2f} times bare actors ({mine:.1f} against {theirs:.1f} µs)")
    assert mine <= 1.5 * theirs


@pytest.mark.parametrize(("times", "least"), [("constant", 0.93), ("log-normal", 0.80)])
def test_the_slowest_stage_is_never_idle(times: str, least: float) -> None:
    """Three hops of which the second limits the others: against the time that it alone needs."""
    from waiting_stages import Waits, service_times

    count = 600
    durations = {name: service_times(name, times, count) for name in ("first", "second", "third")}
    records = [{"x": x, "duration": 1.0, **{name: durations[name][x] for name in durations}} for x in range(count)]
    stages = [
        Waits(name).with_(name=name, workers=1, resources=Resources(cpus=cpus))
        for name, cpus in (("first", 0.1), ("second", 0.2), ("third", 0.1))
    ]

    def run(count: int) -> None:
        read = ReadRecords(records[:count]), Partition(max_records=4, by_length=False)
        assert Pipeline("bound", [*read, *stages]).run("multiprocessing").summary["kept"] == count

    short = 60
    took = min(seconds(run, count) - seconds(run, short) for _ in range(2))
    bound = sum(durations["second"][short:count])
    print(f"\n{times} service times: {bound / took:.3f} of the bound ({took:.2f} against {bound:.2f} s)")
    assert bound / took >= least


def test_first_result_and_rate_of_local_against_nemo_curator() -> None:
    """NeMo Curator 1.x needs 20 CPU seconds before its first task, and then does 48 tasks a second."""
    code = (
        "from trivial_stages import STAGES\nfrom curate import Pipeline\nfrom curate.stages import ReadRecords\n"
        "rows = [{'x': x, 'duration': 1.0} for x in range(20_000)]\n"
        "assert Pipeline('p', [ReadRecords(rows), *STAGES]).run().summary['kept'] == 20_000\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    took = min(
        seconds(lambda: subprocess.run([sys.executable, "-c", code], env=environment, check=True)) for _ in range(3)
    )
    print(f"\nlocal: 20,000 tasks in {took:.2f} s from the start of the process: {20_000 / took / 48:.0f} times 48/s")
    assert 20_000 / took >= 100 * 48
