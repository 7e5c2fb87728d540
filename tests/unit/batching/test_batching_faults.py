"""Faults of well-known batchers, one named test each: none of them is ours."""

from __future__ import annotations

import itertools

import pytest

from curate.batching import (
    BatchController,
    BucketBatcher,
    CostModel,
    DurationBatcher,
    Finished,
    LengthBatcher,
    StaticBatcher,
    Unfit,
    create_bucket_sizes,
    run_splitting,
    score,
    suggest,
)
from curate.batching.controller import PATIENCE
from curate.errors import RecordError


def is_memory_error(error: BaseException) -> bool:
    return isinstance(error, MemoryError)


def test_a_lasting_oom_ends_instead_of_backing_off_for_ever() -> None:
    """`max(minimum, n // 2)` stays at the minimum, and a check for "below the minimum" never comes true."""
    controller = BatchController.by_size(32, 4, 128)
    attempts = 0

    def never_fits(items: list[int]) -> None:
        nonlocal attempts
        attempts += 1
        raise MemoryError("blocked")

    parts = list(
        run_splitting(range(32), never_fits, is_oom=is_memory_error, on_oom=lambda items, _: controller.record_oom(5.0))
    )
    assert [part.item for part in parts if isinstance(part, Unfit)] == list(range(32))
    assert attempts == 2 * 32 - 1
    assert controller.max_items(5.0) == 4


@pytest.mark.parametrize(("scale", "expected"), [(4.0, 128), (0.125, 4)])
def test_a_size_that_changes_on_the_way_neither_repeats_nor_loses_items(scale: float, expected: int) -> None:
    """A fixed stride with a slice that adapts repeats items when the slice grows, and loses them when it shrinks."""
    seen: list[float] = []

    def changing(length_s: float) -> float:
        seen.append(length_s)
        return scale if len(seen) > 500 else 1.0

    durations = [5.0 + index % 10 / 10 for index in range(1000)]
    batches = list(LengthBatcher(170.0, window=128, scale=changing, max_items=expected).plan(durations))
    assert sorted(itertools.chain(*batches)) == list(range(1000))


def test_after_an_oom_all_parts_are_tried_again_and_not_the_first_alone() -> None:
    def small_only(items: list[int]) -> list[int]:
        if len(items) > 3:
            raise MemoryError
        return [2 * item for item in items]

    parts = list(run_splitting(range(10), small_only, is_oom=is_memory_error))
    results = [result for part in parts if isinstance(part, Finished) for result in part.result]
    assert results == [2 * item for item in range(10)]


def test_halves_are_even_and_no_part_gets_the_whole_remainder() -> None:
    """`len // parts` with the remainder on the last gave 15 items on 8 cards: 8 of them on one."""
    attempts: list[int] = []

    def single_only(items: list[int]) -> None:
        attempts.append(len(items))
        if len(items) > 1:
            raise MemoryError

    list(run_splitting(range(15), single_only, is_oom=is_memory_error))
    assert sorted(attempts, reverse=True) == [15, 8, 7, *[4] * 3, 3, *[2] * 7, *[1] * 15]


def test_length_filters_and_remainders_say_what_they_drop() -> None:
    plan = StaticBatcher(4, drop_remainder=True, min_s=1.0).plan([0.1, 1.0, 2.0, 3.0, 4.0, 5.0])
    assert list(plan) == [[1, 2, 3, 4]]
    assert [(dropped.index, bool(dropped.reason)) for dropped in plan.dropped] == [(0, True), (5, True)]


def test_a_bucket_cap_caps_and_does_not_remove_the_buckets_of_short_items() -> None:
    durations = [0.5] * 100 + [10.0] * 10
    batcher = BucketBatcher(max_batch_s=20.0, max_s=10.0, max_bucket_size=8)
    batches = list(batcher.plan(durations))
    assert sorted(itertools.chain(*batches)) == list(range(110))
    assert max(map(len, batches)) == 8
    assert min(length_s for _, length_s in batcher.buckets()) < 0.5


def test_the_cost_of_an_item_does_not_include_the_weights() -> None:
    """A peak divided by the number of items takes the weights for the items'; one batch size then proves itself."""
    weights, item = 8e9, 2e8
    measured = [(n, 5.0, weights + n * item) for n in (1, 2, 4, 8, 16)]
    model = CostModel.fit(measured)
    assert model.cost(32, 5.0) == pytest.approx(weights + 32 * item, rel=1e-6)
    assert model.max_items(weights + 32 * item, 5.0) == 32


def test_one_high_peak_does_not_ratchet_the_size_down_to_one() -> None:
    """A peak that is never reset stays above the target for ever."""
    controller = BatchController.by_size(32, 1, 128, target_share=0.8)
    controller.record_success(32, 5.0, peak_share=0.95)
    shrunk = controller.max_items(5.0)
    assert shrunk < 32
    for _ in range(40 * PATIENCE):
        controller.record_success(controller.max_items(5.0), 5.0, peak_share=0.5 * controller.scale(5.0))
    assert controller.max_items(5.0) > 32


@pytest.mark.parametrize("unknown", [None, float("nan"), 0, 0.0, -1.0, float("inf"), "3.0", True])
def test_a_missing_duration_is_never_zero_and_so_an_unbounded_batch(unknown: object) -> None:
    durations = [5.0, unknown, 5.0]
    for batcher in (LengthBatcher(20.0), DurationBatcher(20.0), BucketBatcher(max_batch_s=40.0)):
        with pytest.raises(RecordError, match="item 1"):
            list(batcher.plan(durations))
    assumed = list(LengthBatcher(20.0, assumed_s=15.0).plan(durations))
    assert sorted(map(sorted, assumed)) == [[0, 2], [1]]
    assert sorted(map(len, LengthBatcher(60.0, assumed_s=30.0).plan([unknown] * 9))) == [1, 2, 2, 2, 2]


def test_a_sum_of_durations_bounds_the_padded_size_too() -> None:
    """One long item among short ones fills a sum of durations hardly, and the padded batch many times over."""
    durations = [1.0] * 100 + [40.0]
    batches = list(DurationBatcher(120.0).plan(durations))
    assert score(batches, durations, 1.1 * 120.0).over_budget == 0


def test_an_error_goes_to_the_caller_and_never_becomes_an_empty_result() -> None:
    def broken(items: list[int]) -> None:
        raise ValueError("not about memory")

    with pytest.raises(ValueError, match="not about memory"):
        list(run_splitting([1, 2, 3], broken, is_oom=is_memory_error))


@pytest.mark.parametrize(("gpu_memory_gb", "model", "guide"), [(24, "large", 52), (16, "medium", 39), (8, "small", 19)])
def test_sizing_says_what_it_computes_and_is_safe_for_the_longest(gpu_memory_gb: float, model: str, guide: int) -> None:
    """The guide's comments say 32, 48, 64, its code 52, 39, 19, and both look at the mean alone."""
    advice = suggest(gpu_memory_gb, model, mean_s=5.0, max_s=20.0)
    assert int(advice.by_memory_s / 5.0) == guide
    assert advice.batch_size * 20.0 <= advice.max_batch_s <= advice.by_memory_s


def test_a_size_does_not_shrink_while_batches_are_clean() -> None:
    controller = BatchController(200.0)
    for _ in range(500):
        controller.record_success(40, 5.0, peak_share=0.99)
    assert controller.scale(5.0) == 1.0
    assert not controller.history


def test_published_buckets_are_those_of_the_code_and_not_of_the_guide() -> None:
    """The guide prints [(8, 120000), (16, 60000), …] for these; the longest bucket holds one sequence."""
    sizes = create_bucket_sizes(
        min_seq_len=32_000, max_seq_len=960_000, max_num_elements=960_000, num_seqs_multiple_of=8
    )
    assert sizes[-1] == (1, 960_000)
    assert (8, 120_000) in sizes and (16, 60_000) in sizes
