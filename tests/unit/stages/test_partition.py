"""Cutting batches: every record once, the same cuts every time, and no part much larger than another."""

from __future__ import annotations

import math
from itertools import islice
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import PlanError
from curate.records import Record
from curate.stages import Partition


def records(*durations: float | None) -> list[Record]:
    return [{"_id": f"m:{number}", "duration": seconds} for number, seconds in enumerate(durations)]


def cut(partition: Partition, data: list[Record]) -> list[list[Any]]:
    return [[record["duration"] for record in batch.data] for batch in partition.partition(iter(data))]


def test_by_count() -> None:
    assert cut(Partition(max_records=3, by_length=False), records(*range(7))) == [[0, 1, 2], [3, 4, 5], [6]]


def test_records_of_like_length_travel_together_in_the_order_of_the_input() -> None:
    assert sorted(cut(Partition(max_records=3), records(9, 1, 9, 1, 9, 1))) == [[1, 1, 1], [9, 9, 9]]
    assert cut(Partition(max_records=6), records(9, 1, 9, 1, 9, 1)) == [[9, 1, 9, 1, 9, 1]]


@pytest.mark.parametrize("unknown", [None, 0, -3.0, math.nan, math.inf, "3", True])
def test_a_length_that_is_not_known_counts_as_a_typical_one(unknown: Any) -> None:
    data = [{"_id": str(number), "duration": seconds} for number, seconds in enumerate([1, unknown, 14, 1, 14, 1])]
    batches = [[record["_id"] for record in batch.data] for batch in Partition(max_records=3).partition(iter(data))]
    assert sorted(batches) == [["0", "3", "5"], ["1", "2", "4"]]


@pytest.mark.parametrize("count", [1, 4, 5])
def test_an_input_of_at_most_one_window_is_one_batch_in_its_order(count: int) -> None:
    """The fast path for fewer records than a window gives the same cut as the planner, which a full window goes to."""
    data = records(*(1 + 9 * (number % 2) for number in range(count)))
    (batch,) = Partition(max_records=5).partition(iter(data))
    assert batch.data == data


def test_without_any_duration_the_order_is_the_inputs() -> None:
    data = [{"_id": f"m:{number}"} for number in range(7)]
    batches = [[record["_id"] for record in batch.data] for batch in Partition(max_records=3).partition(iter(data))]
    assert batches == [["m:0", "m:1", "m:2"], ["m:3", "m:4", "m:5"], ["m:6"]]


def test_nothing_gives_no_batches() -> None:
    for partition in (Partition(), Partition(max_audio_s=1), Partition(parts=3)):
        assert cut(partition, []) == []


def test_by_seconds_a_batch_is_full_and_never_over() -> None:
    assert cut(Partition(max_audio_s=10), records(4, 6, 5, 5.5, 1, 9)) == [[4, 6], [5], [5.5, 1], [9]]


def test_a_record_that_is_too_long_travels_alone() -> None:
    assert cut(Partition(max_audio_s=10), records(1, 60, 2, 3)) == [[1], [60], [2, 3]]
    assert cut(Partition(max_audio_s=10), records(60, 60)) == [[60], [60]]


def test_both_bounds_hold_together() -> None:
    assert cut(Partition(max_records=2, max_audio_s=10), records(1, 1, 1, 9, 1, 1)) == [[1, 1], [1, 9], [1, 1]]


def test_records_without_a_duration_count_nothing_but_are_there() -> None:
    assert cut(Partition(max_records=2, max_audio_s=1), records(None, 3, None)) == [[None], [3], [None]]
    assert cut(Partition(parts=2), records(None, None, None, None)) == [[None, None], [None, None]]


@pytest.mark.parametrize(("items", "parts"), [(15, 8), (16, 8), (7, 8), (1, 8), (100, 7), (3, 3)])
def test_equal_records_are_divided_so_that_parts_differ_by_one_at_most(items: int, parts: int) -> None:
    sizes = [len(batch) for batch in cut(Partition(parts=parts), records(*[2.5] * items))]
    assert len(sizes) == min(items, parts)
    assert max(sizes) - min(sizes) <= 1


def test_parts_are_balanced_by_duration_and_keep_the_order_within() -> None:
    batches = cut(Partition(parts=2), records(1, 30, 2, 3, 4, 5, 7, 8))
    assert sorted(map(sum, batches)) == [30, 30]
    data = records(*(seconds % 13 + 0.1 for seconds in range(50)))
    for batch in Partition(parts=4).partition(iter(data)):
        positions = [int(record["_id"].partition(":")[2]) for record in batch.data]
        assert positions == sorted(positions)


@given(
    st.lists(st.none() | st.floats(0, 100), max_size=60),
    st.sampled_from(
        [
            Partition(max_records=4),
            Partition(max_records=4, by_length=False),
            Partition(max_audio_s=60),
            Partition(parts=5),
            Partition(max_records=4, parts=3),
            Partition(max_records=4, weights={"a": 3.0, "b": 1.0}),
            Partition(max_records=4, weights={"a": 3.0}, parts=2),
        ]
    ),
)
def test_every_record_is_in_exactly_one_batch_and_the_cuts_are_the_same_again(
    durations: list[float | None], partition: Partition
) -> None:
    data = records(*durations)
    for number, record in enumerate(data):
        record["dataset_name"] = "aab"[number % 3]
    batches = [[record["_id"] for record in batch.data] for batch in partition.partition(iter(data))]
    assert sorted(identity for batch in batches for identity in batch) == sorted(record["_id"] for record in data)
    assert all(batches)
    assert partition.parts or all(len(batch) <= partition.max_records for batch in batches)
    assert batches == [[record["_id"] for record in batch.data] for batch in partition.partition(iter(data))]


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=60), st.integers(1, 8))
def test_no_part_is_longer_than_the_mean_and_one_record(durations: list[float], parts: int) -> None:
    sums = [sum(filter(None, batch)) for batch in cut(Partition(parts=parts), records(*durations))]
    assert max(sums) <= sum(durations) / min(parts, len(durations)) + max(durations) + 1e-6


def test_datasets_are_mixed_by_the_weight_of_their_hours() -> None:
    data = records(*[20.0, *[2.0] * 10] * 100)
    for record in data:
        record["dataset_name"] = "books" if record["duration"] == 20.0 else "commands"
    partition = Partition(max_records=100, weights={"books": 1.0, "commands": 3.0})
    first = [record for batch in islice(partition.partition(iter(data)), 4) for record in batch.data]
    books_s = sum(record["duration"] for record in first if record["dataset_name"] == "books")
    assert books_s / sum(record["duration"] for record in first) == pytest.approx(0.25, abs=0.03)


def test_a_dataset_that_comes_late_does_not_hold_up_the_others() -> None:
    data = records(*[5.0] * 300)
    for number, record in enumerate(data):
        record["dataset_name"] = "early" if number < 200 else ["early", "late"][number % 2]
    order = [
        record["dataset_name"]
        for batch in Partition(20, weights={"late": 1.0}).partition(iter(data))
        for record in batch.data
    ]
    assert order[:150] == ["early"] * 150
    assert "early" in order[-120:-60], "late ones do not go all at once because none went before"


def test_batches_have_names() -> None:
    assert [batch.task_id for batch in Partition(max_records=1).partition(iter(records(1, 2)))] == [
        "partition-000000",
        "partition-000001",
    ]


@pytest.mark.parametrize(
    ("partition", "held"),
    [
        (Partition(max_records=10), 30),
        (Partition(max_records=10, by_length=False), 10),
        (Partition(max_records=10, parts=4), 40),
        (Partition(max_records=10, weights={"a": 2.0}), 30),
    ],
)
def test_an_endless_input_is_cut_and_little_of_it_held(partition: Partition, held: int) -> None:
    drawn = 0

    def endless() -> Any:
        nonlocal drawn
        while True:
            drawn += 1
            yield {"_id": f"m:{drawn}", "duration": 0.3 + drawn * 7919 % 4000 / 100, "dataset_name": "ab"[drawn % 2]}

    cut = 0
    for batch in islice(partition.partition(endless()), 300):
        cut += len(batch)
        assert drawn - cut <= held + 1


def test_a_record_leaves_soon_after_its_turn() -> None:
    draw = Random(0)
    data = records(*(draw.lognormvariate(1.6, 0.9) for _ in range(20_000)))
    batches = Partition(max_records=1000).partition(iter(data))
    indices = [int(record["_id"][2:]) for batch in batches for record in batch.data]
    late = max(position - index for position, index in enumerate(indices))
    assert late <= 12_000


def test_settings_that_change_no_result_are_out_of_the_fingerprint() -> None:
    assert Partition.tuning == set(Partition().settings())


@pytest.mark.parametrize(
    "setting",
    [
        {"max_records": 0},
        {"max_audio_s": 0},
        {"max_audio_s": -1},
        {"parts": 0},
        {"parts": 2, "max_audio_s": 3},
        {"weights": {"a": 0}},
    ],
)
def test_impossible_settings_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match=next(iter(setting))):
        Partition(**setting)


def test_durations_are_read_only_where_they_count() -> None:
    assert not Partition().reads()
    assert set(Partition(parts=2).reads()) == set(Partition(max_audio_s=2).reads()) == {"duration"}
