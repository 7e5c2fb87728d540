"""The length-aware planner: what it guarantees for any lengths, and what it reads."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.batching import (
    BucketBatcher,
    CostModel,
    Dropped,
    DurationBatcher,
    LengthBatcher,
    LengthWindows,
    MemoryBatcher,
    StaticBatcher,
    score,
)
from curate.errors import PlanError

lengths = st.lists(st.floats(0.05, 60.0) | st.sampled_from([0.5, 3.0, 7.25]), max_size=300)
windows = st.integers(1, 64)
budgets = st.floats(1.0, 300.0)


class Counted(Iterator[float]):
    """An endless source that counts what is taken from it."""

    def __init__(self) -> None:
        self.taken = 0

    def __next__(self) -> float:
        self.taken += 1
        return 0.5 + (self.taken * 7919 % 997) / 50


def assert_each_once(batches: list[list[int]], count: int) -> None:
    assert sorted(itertools.chain(*batches)) == list(range(count))
    assert all(batches)


@given(lengths, windows, budgets, st.none() | st.integers(1, 20), st.integers(1, 8), st.integers(1, 10), st.booleans())
def test_every_item_is_in_one_batch_and_every_batch_within_its_bounds(
    durations: list[float],
    window: int,
    max_batch_s: float,
    max_items: int | None,
    multiple_of: int,
    max_age: int,
    largest_first: bool,
) -> None:
    batcher = LengthBatcher(
        max_batch_s,
        window=window,
        max_items=max_items,
        multiple_of=min(multiple_of, max_items or multiple_of),
        max_age=max_age,
        largest_first=largest_first,
    )
    batches = list(batcher.plan(durations))
    assert_each_once(batches, len(durations))
    figures = score(batches, durations, max_batch_s)
    assert (figures.over_budget, figures.lost, figures.duplicated, figures.invented) == (0, 0, 0, 0)
    assert figures.oversized == sum(length > max_batch_s * (1 + 2e-9) for length in durations)
    assert all(len(batch) <= min(window, max_items or window) for batch in batches)
    assert batches == list(batcher.plan(iter(durations)))


@given(lengths, windows, st.integers(1, 6))
def test_nothing_waits_longer_than_its_age_allows(durations: list[float], window: int, max_age: int) -> None:
    read = -1

    def reading() -> Iterator[float]:
        nonlocal read
        for read, length in enumerate(durations):  # noqa: B007
            yield length

    for batch in LengthBatcher(50.0, window=window, max_age=max_age).plan(reading()):
        # a refill is never larger than the window, and an item leaves at the refill at which it has its age
        assert read - min(batch) <= (max_age + 1) * window + 1


@given(lengths, windows, budgets)
def test_other_batchers_lose_and_repeat_nothing_either(durations: list[float], window: int, max_batch_s: float) -> None:
    by_duration = list(DurationBatcher(max_batch_s, window).plan(durations))
    assert_each_once(by_duration, len(durations))
    for batch in by_duration:
        seconds = [durations[index] for index in batch]
        assert len(batch) == 1 or sum(seconds) <= max_batch_s * (1 + 1e-9)
        assert len(batch) == 1 or len(batch) * max(seconds) <= 1.1 * max_batch_s * (1 + 1e-9)
    in_buckets = list(BucketBatcher(max_batch_s=max(60.0, max_batch_s), max_s=60.0).plan(durations))
    assert_each_once(in_buckets, len(durations))
    assert score(in_buckets, durations, max(60.0, max_batch_s) + 1 / 16_000).over_budget == 0
    assert_each_once(list(StaticBatcher(window).plan(durations)), len(durations))
    in_windows = list(LengthWindows(window, max_batch_s).plan(durations))
    assert_each_once(in_windows, len(durations))
    assert all(len(batch) <= window and batch == sorted(batch) for batch in in_windows)


@given(lengths, windows, st.integers(2, 50), st.integers(2, 9), st.integers(0, 3))
def test_shuffled_plans_are_reproducible_and_complete(
    durations: list[float], window: int, examples: int, batches: int, seed: int
) -> None:
    batcher = LengthBatcher(
        100.0, window=window, example_shuffle_window=examples, batch_shuffle_window=batches, seed=seed
    )
    plan = list(batcher.plan(durations))
    assert_each_once(plan, len(durations))
    assert plan == list(batcher.plan(durations))


def test_a_seed_and_a_window_change_the_order() -> None:
    durations = [1.0 + index % 7 for index in range(200)]
    plans = [
        list(StaticBatcher(4, example_shuffle_window=window, seed=seed).plan(durations))
        for window, seed in ((1, 0), (1, 1), (50, 0), (50, 1))
    ]
    assert plans[0] == plans[1]
    assert len({str(plan) for plan in plans}) == 3
    # drawn from 50: nothing comes earlier than 50 places before its own
    assert all(index - place < 50 for place, index in enumerate(itertools.chain(*plans[2])))


@pytest.mark.parametrize(
    "batcher",
    [
        LengthBatcher(100.0, window=512),
        LengthBatcher(100.0, window=512, example_shuffle_window=64, batch_shuffle_window=4),
        DurationBatcher(100.0, window=512),
        StaticBatcher(16),
        BucketBatcher(max_batch_s=100.0, max_s=25.0),
        MemoryBatcher(budget_bytes=1e6, cost=CostModel(c0=1e5, a=1e3, b=50.0), window=512),
        LengthWindows(512),
    ],
    ids=lambda batcher: type(batcher).__name__,
)
def test_an_endless_stream_is_planned_in_a_windows_memory_and_can_be_left_at_any_time(batcher: Any) -> None:
    source = Counted()
    plan = batcher.plan(source)
    given_out = 0
    for batch in itertools.islice(plan, 400):
        given_out += len(batch)
        assert source.taken - given_out < 5 * 512
    plan.close()
    taken = source.taken
    with pytest.raises(StopIteration):
        next(plan)
    assert source.taken == taken


def test_static_batches_are_given_out_as_soon_as_they_are_full() -> None:
    source = Counted()
    plan = StaticBatcher(4).plan(source)
    assert next(plan) == [0, 1, 2, 3]
    assert source.taken == 4


def test_nothing_is_planned_for_no_lengths() -> None:
    for batcher in (LengthBatcher(), DurationBatcher(), StaticBatcher(3), BucketBatcher(), LengthWindows()):
        assert list(batcher.plan([])) == []


def test_numbers_of_items_are_multiples_where_they_can_be() -> None:
    durations = [1.0 + index % 50 / 10 for index in range(3000)]
    sizes = [len(batch) for batch in LengthBatcher(200.0, multiple_of=8).plan(durations)]
    assert sum(size % 8 != 0 for size in sizes) <= 1
    # where less than a multiple fits, what fits is taken
    assert [len(batch) for batch in LengthBatcher(20.0, multiple_of=8).plan([6.0] * 9)] == [3, 3, 3]


def test_largest_batches_come_first_inside_a_window() -> None:
    durations = [1.0 + index * 7919 % 97 / 5 for index in range(1000)]
    sizes = [len(batch) for batch in LengthBatcher(100.0, largest_first=True).plan(durations)]
    assert sizes == sorted(sizes, reverse=True)


def test_the_last_window_comes_longest_first_so_that_memory_runs_out_early() -> None:
    durations = [1.0 + index * 7919 % 97 / 5 for index in range(1000)]
    longest = [max(durations[index] for index in batch) for batch in LengthBatcher(100.0).plan(durations)]
    assert longest == sorted(longest, reverse=True)


def test_an_item_over_the_budget_is_alone_and_flagged() -> None:
    durations = [500.0, 3.0, 4.0, 600.0]
    batches = list(LengthBatcher(200.0).plan(durations))
    assert sorted(map(sorted, batches)) == [[0], [1, 2], [3]]
    figures = score(batches, durations, 200.0)
    assert (figures.oversized, figures.over_budget) == (2, 0)


def test_out_of_range_and_remainder_are_reported_with_the_reason() -> None:
    plan = LengthBatcher(8.0, min_s=1.0, max_s=9.0, drop_remainder=True).plan([0.5, 4.0, 10.0, 3.9, 1.0])
    assert [sorted(batch) for batch in plan] == [[1, 3]]
    assert plan.dropped == [
        Dropped(0, 0.5, "shorter than 1 s"),
        Dropped(2, 10.0, "longer than 9 s"),
        Dropped(4, 1.0, "in the remainder, which drop_remainder drops"),
    ]


def test_whoever_listens_to_drops_gets_them_and_nothing_is_collected() -> None:
    heard: list[Dropped] = []
    plan = StaticBatcher(2, drop_remainder=True, max_s=5.0).plan([1.0, 9.0, 2.0, 3.0], on_drop=heard.append)
    assert list(plan) == [[0, 2]]
    assert [dropped.index for dropped in heard] == [1, 3]
    unknown = StaticBatcher(2, drop_remainder=True).plan([None, None, None])
    assert list(unknown) == [[0, 1]]
    assert [(dropped.index, dropped.length_s) for dropped in unknown.dropped] == [(2, None)]
    assert plan.dropped == []


@given(lengths, windows, st.sampled_from(["length", "static", "bucket"]))
def test_kept_and_dropped_together_are_all(durations: list[float], window: int, which: str) -> None:
    batcher = {
        "length": LengthBatcher(50.0, window=window, min_s=1.0, max_s=40.0, drop_remainder=True),
        "static": StaticBatcher(7, True, min_s=1.0, max_s=40.0),
        "bucket": BucketBatcher(max_batch_s=80.0, min_s=1.0, max_s=40.0, multiple_of=4, drop_remainder=True),
    }[which]
    plan = batcher.plan(durations)
    kept = list(itertools.chain(*plan))
    assert sorted([*kept, *(dropped.index for dropped in plan.dropped)]) == list(range(len(durations)))


@given(lengths.filter(bool), windows)
def test_a_memory_budget_is_kept_by_every_batch(durations: list[float], window: int) -> None:
    cost = CostModel(c0=50.0, a=2.0, b=0.3, safety=1.2)
    batcher = MemoryBatcher(budget_bytes=3000.0, cost=cost, window=window)
    batches = list(batcher.plan(durations))
    assert_each_once(batches, len(durations))
    figures = score(batches, durations, 3000.0, cost=cost)
    assert figures.over_budget == 0
    assert figures.worst == pytest.approx(
        max(batcher.share(len(batch), max(durations[index] for index in batch)) for batch in batches)
    )


def test_a_shrunk_length_class_gets_smaller_batches_and_leaves_those_of_longer_items() -> None:
    durations = [5.0] * 80 + [20.0] * 20
    batches = list(LengthBatcher(100.0, scale=lambda length_s: 0.1 if length_s < 10 else 1.0).plan(durations))
    assert {len(batch) for batch in batches if durations[batch[0]] == 5.0} == {2}
    assert {len(batch) for batch in batches if durations[batch[0]] == 20.0} == {5}


def test_arrays_are_lengths_too() -> None:
    import numpy as np

    durations = np.linspace(0.5, 20, 100)
    plan = list(LengthBatcher(50.0).plan(durations))
    assert plan == list(LengthBatcher(50.0).plan(durations.tolist()))
    assert isinstance(plan[0][0], int)
    assert list(LengthBatcher(50.0).plan(durations.astype(np.int64) + 1))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"max_batch_s": 0}, "max_batch_s=0: must be a number above 0"),
        ({"max_batch_s": math.inf}, "max_batch_s=inf"),
        ({"window": 0}, "window=0: must be a whole number of at least 1"),
        ({"max_items": 4, "multiple_of": 8}, "multiple_of=8 is above max_items=4"),
        ({"min_s": 3.0, "max_s": 2.0}, "no length is between them"),
        ({"example_shuffle_window": 0}, "1 is off"),
        ({"batch_shuffle_window": 5, "largest_first": True}, "choose one"),
        ({"drop_remainder": "no"}, "must be True or False"),
        ({"cost": CostModel(c0=300.0)}, "fixed cost of a batch is already"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], what: str) -> None:
    with pytest.raises(PlanError, match=what):
        LengthBatcher(**options)
