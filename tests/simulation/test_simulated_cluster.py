"""A simulated cluster is the plain run in another order: the same books and bytes; the same seed, the same trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curate import Pipeline, RecordError, processing_stage
from curate.engine import RunOptions
from curate.stages import Merge, Partition, QualityFilter
from tests.bench.run_costs import SyntheticRecords
from tests.simulation.driver_wall import steady
from tests.simulation.simulated_cluster import (
    DriverCost,
    RealTimeFactor,
    SimulatedExecutor,
    SimulatedRecogniser,
    model_alone,
)

RECORDS, WORKERS, WINDOW = 20_000, 50, 128
BOOKS = ("records_in", "kept", "filtered", "quarantined")


@processing_stage(name="judge", reads=["pred_text"], writes=[])
def judge(record: dict) -> dict:
    """Refuse every hundredth record."""
    if record["pred_text"].endswith("00"):
        raise RecordError("bad_value", "the last digits are zeros")
    return record


def pipeline() -> Pipeline:
    recogniser = SimulatedRecogniser(batch_audio_s=200.0).with_(checkpoint=True)
    kept = QualityFilter("duration <= 13.6")
    stages = [SyntheticRecords(RECORDS), Partition(max_records=WINDOW), recogniser, judge, kept, Merge("out.jsonl")]
    return Pipeline("simulated", stages)


def run(run_dir: Path, executor: SimulatedExecutor) -> dict[str, int]:
    options = RunOptions(clock=executor.clock, unit_bytes=100_000)
    summary = pipeline().run(executor, run_dir=run_dir, options=options, max_failures=RECORDS).summary
    return {name: summary[name] for name in BOOKS}


def test_simulated_run_equals_the_plain_one_and_its_seed_gives_its_trace(tmp_path: Path) -> None:
    plain = pipeline().run(run_dir=tmp_path / "plain", max_failures=RECORDS)
    traces: list[str] = []
    for number, seed in enumerate((1, 1, 2)):
        executor = SimulatedExecutor(WORKERS, RealTimeFactor(1000), seed=seed)
        books = run(tmp_path / f"simulated-{number}", executor)
        assert books == {name: plain.summary[name] for name in BOOKS}
        published = tmp_path / f"simulated-{number}" / "out.jsonl"
        assert published.read_bytes() == (tmp_path / "plain" / "out.jsonl").read_bytes()
        assert executor.transports[0].room(0) == 0  # all of them were started
        traces.append(executor.trace)
    assert traces[0] == traces[1]
    assert traces[0] != traces[2]
    first = json.loads(next((tmp_path / "simulated-0" / "commits").glob("p0-*.json")).read_bytes())
    assert len(first["ranges"]) > 1  # results came in the order of a cluster


def test_driver_that_cannot_keep_up_leaves_workers_idle(tmp_path: Path) -> None:
    utilisation: dict[float, float] = {}
    for record_s in (0.0, 1e-3):
        executor = SimulatedExecutor(10, RealTimeFactor(1000), setup_s=0.1, cost=DriverCost(0.0, record_s))
        stages = [SyntheticRecords(10_000), Partition(max_records=128), SimulatedRecogniser(200.0)]
        Pipeline("late", stages).run(
            executor, run_dir=tmp_path / str(record_s), options=RunOptions(clock=executor.clock)
        )
        begin, end = steady(executor.transports[0])
        utilisation[record_s] = (end.busy_s - begin.busy_s) / (end.at_s - begin.at_s) / 10
    assert utilisation[0.0] >= 0.95
    # ten workers at 8 ms a record give 1,250 records a second, and the driver takes 1,000
    assert utilisation[1e-3] == pytest.approx(0.8, abs=0.05)


def test_model_alone_takes_what_was_measured() -> None:
    assert model_alone(1600, 128) == pytest.approx(0.0799)
