"""Which worker gets which GPU."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from curate.errors import PlanError
from curate.executors.gpu_allocation import GpuAllocator, assign_gpus
from curate.machine import Gpu
from curate.plan import Hop, PlannedStage
from curate.resources import Resources
from curate.stage_decorator import processing_stage

FOUR = [Gpu(str(number)) for number in range(4)]
BIG = [Gpu("0", 24.0), Gpu("1", 24.0)]


@processing_stage(name="asr")
def asr(record: dict) -> dict:
    return record


def hop(workers: int | None, **resources: Any) -> Hop:
    return Hop((PlannedStage("asr", "processing", asr, None),), Resources(**resources), workers)


def assigned(hops: list[Hop], gpus: list[Gpu]) -> list[list[tuple[str, ...]]]:
    """Return the GPUs of every worker, by hop."""
    taken = assign_gpus(hops, gpus).taken
    return [[ids for (of, _), ids in sorted(taken.items()) if of == number] for number in range(len(hops))]


def test_whole_gpus_halves_and_none() -> None:
    none, half, whole = assigned([hop(3), hop(4, gpus=0.5), hop(2, gpus=1)], FOUR)
    assert none == [(), (), ()]
    assert len(set(whole)) == 2
    assert Counter(half) == {(gpu,): 2 for gpu in "0123" if (gpu,) not in whole}


def test_fractions_spread_over_the_gpus_before_they_share_one() -> None:
    (half,) = assigned([hop(4, gpus=0.5)], FOUR)
    assert sorted(half) == [("0",), ("1",), ("2",), ("3",)]


def test_a_worker_with_several_gpus_has_them_alone() -> None:
    two, one = assigned([hop(1, gpus=2), hop(2, gpus=1)], FOUR)
    assert sorted(gpu for ids in (*two, *one) for gpu in ids) == ["0", "1", "2", "3"]


def test_ids_are_those_of_cuda_visible_devices() -> None:
    (whole,) = assigned([hop(2, gpus=1)], [Gpu("GPU-aa"), Gpu("5")])
    assert sorted(whole) == [("5",), ("GPU-aa",)]


@pytest.mark.parametrize(
    ("wanted", "fitting"), [(hop(5, gpus=1), 4), (hop(9, gpus=0.5), 8), (hop(3, gpus=2), 2), (hop(1, gpus=5), 0)]
)
def test_too_many_are_refused_with_figures(wanted: Hop, fitting: int) -> None:
    with pytest.raises(PlanError) as caught:
        assign_gpus([wanted], FOUR)
    assert caught.value.stage == "asr"
    assert f"stage 'asr' asks for {wanted.workers} worker" in str(caught.value)
    assert f"gpus={wanted.resources.gpus:g} each" in str(caught.value)
    assert f"only {fitting} fit on the GPUs of this machine (0, 1, 2, 3)" in str(caught.value)
    assert f".with_(workers={max(1, fitting)})" in str(caught.value)


def test_the_other_stages_of_the_phase_count() -> None:
    with pytest.raises(PlanError, match="next to the other stages of its phase only 1 fit"):
        assign_gpus([hop(3, gpus=1), hop(2, gpus=1)], FOUR)


def test_no_gpus_at_all() -> None:
    with pytest.raises(PlanError, match=r"only 0 fit on the GPUs of this machine \(none\)"):
        assign_gpus([hop(None, gpus=0.5)], [])
    assert assigned([hop(2)], []) == [[(), ()]]


def test_memory_decides_how_many_share_a_gpu() -> None:
    (shared,) = assigned([hop(6, gpu_memory_gb=8.0)], BIG)
    assert Counter(shared) == {("0",): 3, ("1",): 3}
    with pytest.raises(PlanError, match=r"gpu_memory_gb=8 each, .* only 6 fit .*0 with 24 GB, 1 with 24 GB"):
        assign_gpus([hop(7, gpu_memory_gb=8.0)], BIG)


def test_share_and_memory_must_both_fit() -> None:
    (halves,) = assigned([hop(2, gpus=0.5, gpu_memory_gb=20.0)], BIG)
    assert sorted(halves) == [("0",), ("1",)]
    with pytest.raises(PlanError, match=r"gpus=0.5 and gpu_memory_gb=20 each, .*only 2 fit"):
        assign_gpus([hop(3, gpus=0.5, gpu_memory_gb=20.0)], BIG)
    with pytest.raises(PlanError, match="only 0 fit"):
        assign_gpus([hop(1, gpu_memory_gb=30.0)], BIG)


def test_the_smaller_gpu_is_left_out_where_memory_is_asked_for() -> None:
    (one,) = assigned([hop(1, gpus=1, gpu_memory_gb=16.0)], [Gpu("0", 8.0), Gpu("1", 24.0)])
    assert one == [("1",)]


def test_what_is_given_back_can_be_taken_again() -> None:
    allocator, wanted = GpuAllocator(BIG), Resources(gpus=0.5, gpu_memory_gb=10.0)
    taken = [allocator.take(wanted) for _ in range(4)]
    assert allocator.take(wanted) is None
    assert allocator.left(wanted) == 0
    for ids in taken:
        assert ids is not None
        allocator.release(ids, wanted)
    assert allocator.left(wanted) == 4
    assert allocator.left(Resources(gpus=1)) == 2


def test_thirds_of_a_gpu_add_up() -> None:
    assert GpuAllocator([Gpu("0")]).left(Resources(gpus=1 / 3)) == 3
    assert GpuAllocator([Gpu("0")]).left(Resources(gpus=0.1)) == 10


def test_where_the_memory_of_a_gpu_is_unknown_it_is_not_shared_by_memory() -> None:
    """Nobody can say how many would fit, so it is one."""
    allocator, wanted = GpuAllocator(FOUR), Resources(gpu_memory_gb=8.0)
    assert allocator.left(wanted) == 4
    assert [allocator.take(wanted) for _ in range(5)] == [("0",), ("1",), ("2",), ("3",), None]
