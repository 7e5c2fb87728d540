"""What it costs that nothing is lost: a durable run of a trivial pipeline, against writing the same rows as JSONL."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline, processing_stage
from curate.records import Record
from curate.stages import Merge, ReadRecords

COUNT = 100_000
MOST = 5.0
"""Issue 5 allows so many times the plain write."""

ROWS: list[Record] = [
    {
        "audio_filepath": f"/corpus/{number:06d}.flac",
        "duration": 1.0 + number % 90 / 10,
        "text": f"Well, number {number} isn't what the quick brown fox had in mind.",
    }
    for number in range(COUNT)
]


def count_words(record: dict) -> dict:
    record["words"] = len(record["text"].split())
    return record


def write_plainly(path: Path) -> None:
    with path.open("w") as file:
        for row in ROWS:
            file.write(json.dumps(count_words(dict(row)), ensure_ascii=False) + "\n")


def run_durably(run_dir: Path) -> None:
    stage = processing_stage(name="words", reads=["text"], writes=["words"])(count_words)
    Pipeline("durable", [ReadRecords(ROWS), stage, Merge("out.jsonl")]).run(run_dir=run_dir)


def best_s(function: Callable[[int], Any], rounds: int = 5) -> float:
    times: list[float] = []
    for number in range(rounds):
        started = time.perf_counter()
        function(number)
        times.append(time.perf_counter() - started)
    return min(times)


@pytest.mark.bench
def test_a_durable_run_costs_at_most_five_plain_writes(tmp_path: Path) -> None:
    plain_s = best_s(lambda number: write_plainly(tmp_path / f"plain{number}.jsonl"))
    run_s = best_s(lambda number: run_durably(tmp_path / f"run{number}"))
    assert (tmp_path / "run0/out.jsonl").read_bytes() == (tmp_path / "plain0.jsonl").read_bytes()
    print(
        f"\ndurable: {run_s / plain_s:.2f} times a plain JSONL write ({run_s / COUNT * 1e6:.1f} µs a row against "
        f"{plain_s / COUNT * 1e6:.1f} µs)"
    )
    assert run_s <= MOST * plain_s


@pytest.mark.bench
def test_failures_and_slots_cost_little(tmp_path: Path) -> None:
    """A second phase behind one in which every hundredth record failed looks every position up."""

    def run(number: int, *, fails: bool) -> None:
        def judge(record: dict) -> dict:
            if fails and record["duration"] == 1.0 and record["audio_filepath"].endswith("0.flac"):
                raise ValueError("bad")
            return record

        first = processing_stage(name="judge", writes=[])(judge).with_(checkpoint=True)
        second = processing_stage(name="words", reads=["text"], writes=["words"])(count_words)
        run_dir = tmp_path / f"{fails}{number}"
        Pipeline("p", [ReadRecords(ROWS), first, second, Merge("out.jsonl")]).run(run_dir=run_dir, max_failures=COUNT)

    well_s = best_s(lambda number: run(number, fails=False), rounds=3)
    failing_s = best_s(lambda number: run(number, fails=True), rounds=3)
    print(f"\nfailures: {failing_s / well_s:.2f} times a run in which none of {COUNT:,} records fails")
    assert failing_s <= 3 * well_s
