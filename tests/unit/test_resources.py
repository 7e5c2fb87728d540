"""What a worker needs, and whether the machine has it."""

from __future__ import annotations

import os
from typing import Any

import pytest

from curate import Pipeline, Resources, processing_stage
from curate.errors import PlanError
from curate.machine import Machine
from curate.resource_check import check_resources
from curate.resources import parse_size
from curate.stages import ReadRecords


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("6.5GB", 6_500_000_000),
        ("6.5 gb", 6_500_000_000),
        ("1GiB", 1 << 30),
        ("512K", 512_000),
        ("3", 3),
        ("2TB", 2 * 10**12),
        (7, 7),
    ],
)
def test_sizes(text: Any, size: int) -> None:
    assert parse_size(text) == size
    assert Resources(memory=text).memory == size


@pytest.mark.parametrize("text", ["", "GB", "6.5 XB", "-1GB", "6,5GB", True])
def test_what_is_no_size_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="is not a size; write"):
        parse_size(text)


def test_defaults_and_equality() -> None:
    assert Resources() == Resources(cpus=1, gpus=0)
    assert Resources().to_dict() == {}
    assert Resources(gpus=1, memory="1GB", custom={"tpu": 1}).to_dict() == {
        "gpus": 1.0,
        "memory": 10**9,
        "custom": {"tpu": 1.0},
    }
    assert hash(Resources(gpus=1)) == hash(Resources(gpus=1.0))


@pytest.mark.parametrize(
    "wrong", [{"gpus": -1}, {"cpus": float("inf")}, {"gpu_memory_gb": float("nan")}, {"memory": -5}, {"gpus": 1.5}]
)
def test_impossible_amounts_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Resources\("):
        Resources(**wrong)


@pytest.mark.parametrize("wrong", [{"gpus": "1"}, {"cpus": True}, {"custom": {"x": "y"}}])
def test_amounts_are_numbers(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="expected a number"):
        Resources(**wrong)


@pytest.mark.parametrize("name", ["num_gpus", "num_cpus", "device_id"])
def test_names_of_other_frameworks_are_answered_with_ours(name: str) -> None:
    with pytest.raises(TypeError, match=rf"Resources has no '{name}': .*(gpus|cpus)"):
        Resources(**{name: 1})  # pyright: ignore[reportArgumentType]


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(TypeError, match="choose from cpus, gpus, gpu_memory_gb, memory, custom"):
        Resources(disk="1GB")  # pyright: ignore[reportArgumentType]


@processing_stage(name="work")
def work(record: dict) -> dict:
    return record


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"gpus": 3}, r"stage 'work' asks for gpus=3, but this machine has 2; change it with .with_\(resources="),
        ({"cpus": 5}, "asks for cpus=5, but this machine has 4"),
        ({"memory": "2GB"}, r"asks for memory=2e\+09, but this machine has 1e\+09"),
        ({"custom": {"tpu": 1}}, "asks for custom resources tpu, which the local executor does not know"),
    ],
)
def test_a_machine_says_what_it_lacks(wanted: dict[str, Any], message: str) -> None:
    plan = Pipeline("p", [ReadRecords([{}]), work.with_(resources=Resources(**wanted))]).plan()
    with pytest.raises(PlanError, match=message):
        check_resources(plan, Machine(cpus=4, gpus=2, memory=10**9), executor="local")


def test_what_fits_is_fine() -> None:
    plan = Pipeline("p", [ReadRecords([{}]), work.with_(resources=Resources(cpus=4, gpus=2))]).plan()
    check_resources(plan, Machine(cpus=4, gpus=2, memory=10**9), executor="local")


def test_cards_can_be_hidden() -> None:
    assert Machine.here({"CUDA_VISIBLE_DEVICES": ""}).gpus == 0
    assert Machine.here({"CUDA_VISIBLE_DEVICES": "-1"}).gpus == 0


def test_here_is_this_machine() -> None:
    machine = Machine.here()
    assert 1 <= machine.cpus <= (os.cpu_count() or 1)
    assert machine.memory > 10**8
