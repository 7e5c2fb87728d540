"""The arithmetic of a phase: workers as the scheduler chooses them, and the time that the work takes with them."""

from __future__ import annotations

import pytest

from curate.estimate.schedule import Capacity, HopLoad, phase_s, workers_of
from curate.executors.local import LocalExecutor
from curate.executors.multiprocessing import MultiprocessingExecutor
from curate.executors.ray import RayExecutor
from curate.resources import Resources

CPU = Resources(cpus=1.0)
FOUR = Capacity(is_serial=False, cpus=4.0, gpus=2.0)
SERIAL = Capacity(is_serial=True, cpus=1.0, gpus=0.0)


def time_of(*hops: HopLoad, capacity: Capacity = FOUR) -> float:
    return phase_s(hops, workers_of(hops, capacity), capacity)


def test_one_hop_gets_all_cores() -> None:
    assert workers_of([HopLoad(100, CPU, None)], FOUR) == (4,)
    assert workers_of([HopLoad(100, Resources(cpus=3.0), None)], FOUR) == (1,)
    assert time_of(HopLoad(100, CPU, None)) == 25


def test_gpus_limit_the_workers_of_a_hop() -> None:
    assert workers_of([HopLoad(100, Resources(cpus=1.0, gpus=1.0), None)], FOUR) == (2,)
    assert workers_of([HopLoad(100, Resources(cpus=1.0, gpus=0.5), None)], FOUR) == (4,)


def test_free_cores_go_to_the_hop_that_limits_the_others() -> None:
    assert workers_of([HopLoad(90, CPU, None), HopLoad(10, CPU, None)], FOUR) == (3, 1)
    assert time_of(HopLoad(90, CPU, None), HopLoad(10, CPU, None)) == 30


def test_the_workers_of_the_plan_are_kept_and_cores_are_shared() -> None:
    assert workers_of([HopLoad(80, CPU, 8)], FOUR) == (8,)
    assert time_of(HopLoad(80, CPU, 8)) == 20, "eight workers share four cores"
    assert time_of(HopLoad(80, CPU, 8), capacity=Capacity(False, None, None)) == 10, "those of a cluster do not"


def test_hops_at_the_same_time_take_as_long_as_the_slowest() -> None:
    assert time_of(HopLoad(40, CPU, 1), HopLoad(30, CPU, 1)) == 40


def test_the_local_executor_works_on_one_thing_after_the_other() -> None:
    assert workers_of([HopLoad(40, CPU, 8), HopLoad(30, CPU, None)], SERIAL) == (1, 1)
    assert time_of(HopLoad(40, CPU, 8), HopLoad(30, CPU, None), capacity=SERIAL) == 70


def test_no_more_workers_have_work_than_there_are_records() -> None:
    assert workers_of([HopLoad(60, CPU, None, records=2)], FOUR) == (2,)
    assert time_of(HopLoad(60, CPU, 4, records=2)) == 30


def test_a_long_record_keeps_the_phase_open() -> None:
    assert time_of(HopLoad(60, CPU, 2, longest=0.5)) == pytest.approx(30 + 60 * 0.5 * 0.5 / 2)
    assert time_of(HopLoad(60, CPU, 1, longest=0.5)) == 60


def test_a_stage_without_resources_ends() -> None:
    assert workers_of([HopLoad(60, Resources(cpus=0.0), None)], FOUR) == (4,)


def test_capacity_is_that_of_the_executor() -> None:
    assert Capacity.of(LocalExecutor()).is_serial
    assert Capacity.of(MultiprocessingExecutor(cpus=3, gpus=("0", "1"))) == Capacity(False, 3.0, 2.0)
    assert Capacity.of(RayExecutor(num_cpus=64, num_gpus=8)) == Capacity(False, 64.0, 8.0)
    assert Capacity.of(RayExecutor(address="auto")) == Capacity(False, None, None)
