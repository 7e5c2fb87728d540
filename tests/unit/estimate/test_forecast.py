"""Time, price and bottleneck of a job, by the plan's workers."""

from __future__ import annotations

import pytest

from curate import Pipeline, RecordStage, Resources
from curate.estimate import Forecast, Prices
from curate.estimate.forecast import forecast
from curate.estimate.input_size import InputSize
from curate.estimate.schedule import Capacity
from curate.estimate.workload import PhaseWork, StageWork, Workload
from curate.records import Record
from curate.stages import ReadRecords

LARGE = Capacity(is_serial=False, cpus=100.0, gpus=8.0)
SIZE = InputSize(records=1e6, amount=3600e3, unit="seconds", basis="", longest=30.0)


class Step(RecordStage):
    def process_record(self, record: Record) -> Record:
        return record


def job(
    asr_workers: int = 2, *, driver_s: float = 10.0, capacity: Capacity = LARGE, prices: Prices | None = None
) -> Forecast:
    """Return the forecast of 1,000 hours through a stage on cores and a recogniser on GPUs."""
    pipeline = Pipeline("p", [ReadRecords([{"duration": 1.0}]), Step().with_(name="vad", workers=10)])
    gpu = Resources(cpus=2.0, gpus=1.0)
    pipeline.add_stage(Step().with_(name="asr", resources=gpu, workers=asr_workers))
    stages = {"vad": StageWork("vad", 36_000.0, 1e6), "asr": StageWork("asr", 72_000.0, 2e6)}
    work = PhaseWork(stages, loading_s=30.0, driver_s=driver_s)
    return forecast(pipeline.plan(), Workload(SIZE, (work,), 100, 3, 0.05), capacity, prices)


def test_time_is_that_of_the_slowest_hop_with_its_workers() -> None:
    found = job()
    assert found.wall_s == pytest.approx(36_000 + 30 + 10, rel=1e-4)
    assert found.work_s == 36_000 + 72_000 + 10
    assert found.loading_s == 30
    assert [row.name for row in found.stages] == ["vad", "asr", "driver"]
    assert [row.wall_s for row in found.stages] == [0.0, pytest.approx(36_000, rel=1e-4), 10.0]


def test_twice_the_workers_of_the_bottleneck_take_half_the_time_as_the_plan_with_them_says() -> None:
    limit = job(2).bottleneck
    assert limit is not None and (limit.stage, limit.workers, limit.gpus, limit.cpus) == ("asr", 4, 4.0, 18.0)
    assert limit.share > 0.99
    assert limit.wall_s == pytest.approx(job(4).wall_s)
    assert job(4).wall_s == pytest.approx(18_000 + 40, rel=1e-4)
    assert limit.price == job(4).price == 0


def test_other_stage_limits_when_the_first_has_enough_workers() -> None:
    wide = job(40)
    assert wide.bottleneck is not None and wide.bottleneck.stage == "vad"
    assert wide.wall_s == pytest.approx(3600 + 40, rel=1e-3)


def test_driver_that_limits_is_named_and_cannot_be_doubled() -> None:
    found = job(40, driver_s=1e6).bottleneck
    assert found is not None and (found.stage, found.wall_s) == ("driver", None)


def test_price_is_that_of_the_workers_while_they_are_held() -> None:
    prices = Prices.parse(["gpu=2.5/h", "cpu=0.04/h"])
    found = job(prices=prices)
    hours = found.wall_s / 3600
    assert found.stages[0].price == pytest.approx(hours * 10 * 0.04)
    assert found.stages[1].price == pytest.approx(hours * 2 * (2.5 + 2 * 0.04))
    assert found.stages[2].price == pytest.approx(hours * 0.04)
    assert found.price == pytest.approx(sum(row.price for row in found.stages))
    assert found.to_dict()["price_per_audio_hour"] == pytest.approx(found.price / 1000)
    assert found.bottleneck is not None and found.bottleneck.price == pytest.approx(job(4, prices=prices).price)


def test_cores_that_are_all_at_work_bound_the_time() -> None:
    small = job(8, capacity=Capacity(is_serial=False, cpus=4.0, gpus=8.0))
    assert small.wall_s == pytest.approx((36_000 + 2 * 72_000) / 4 + 40, rel=1e-3)


def test_stage_without_figures_is_named() -> None:
    pipeline = Pipeline("p", [ReadRecords([{"duration": 1.0}]), Step().with_(name="vad")])
    work = PhaseWork({"vad": StageWork("vad", None, None)})
    found = forecast(pipeline.plan(), Workload(SIZE, (work,), 0, 0, None), LARGE)
    assert found.bottleneck is None
    assert found.notes == ("not measured, and not included: vad",)


def test_cluster_of_unknown_size_asks_for_workers() -> None:
    pipeline = Pipeline("p", [ReadRecords([{"duration": 1.0}]), Step().with_(name="vad")])
    work = PhaseWork({"vad": StageWork("vad", 10.0, 1.0)})
    found = forecast(pipeline.plan(), Workload(SIZE, (work,), 10, 1, None), Capacity(False, None, None))
    assert "--set stages.vad.workers=N" in found.notes[0]
