"""Work for several cards: near the best division there is, by weight over datasets, nothing lost, the same again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.batching import CostModel, balance, merge_balanced, mix
from curate.errors import PlanError


def dearest(costs: list[float], parts: list[list[int]]) -> float:
    return max(sum(costs[index] for index in part) for part in parts)


def best_possible(costs: list[float], parts: int) -> float:
    """Try every division."""
    return min(
        max(sum(cost for cost, chosen in zip(costs, choice, strict=True) if chosen == part) for part in range(parts))
        for choice in itertools.product(range(parts), repeat=len(costs))
    )


@given(st.lists(st.floats(0.0, 60.0), max_size=7), st.integers(1, 3))
def test_the_dearest_part_is_at_most_a_third_above_the_best_possible(costs: list[float], parts: int) -> None:
    assert dearest(costs, balance(costs, parts)) <= 4 / 3 * best_possible(costs, parts) + 1e-9


@given(st.lists(st.floats(0.0, 1e4), max_size=200), st.integers(1, 16))
def test_every_item_is_in_one_part_in_order_and_the_parts_are_the_same_again(costs: list[float], parts: int) -> None:
    divided = balance(costs, parts)
    assert len(divided) == parts
    assert sorted(itertools.chain(*divided)) == list(range(len(costs)))
    assert all(part == sorted(part) for part in divided)
    assert divided == balance(iter(costs), parts)
    assert dearest(costs, divided) <= sum(costs) / parts + max(costs, default=0.0) + 1e-6
    assert min(map(len, divided)) > 0 or len(costs) < parts or 0.0 in costs


def test_fifteen_items_on_eight_cards_are_two_on_seven_and_one_on_one() -> None:
    """`len // cards` with the remainder on the last gives 8 of 15 to one card."""
    assert sorted(map(len, balance([5.0] * 15, 8))) == [1, *[2] * 7]


def test_the_cost_may_be_another_than_the_length() -> None:
    lengths = [40.0, *[10.0] * 4]
    attention = CostModel(a=1.0, b=1.0)
    by_length, by_cost = balance(lengths, 2), balance([attention.cost(1, length) for length in lengths], 2)
    assert sorted(map(len, by_length)) == [1, 4]
    assert [0] in by_cost, "one long clip costs more than four that are as long together"


@given(st.lists(st.floats(0.1, 60.0), max_size=50), st.integers(1, 8))
def test_results_of_the_parts_come_back_in_the_order_of_the_items(costs: list[float], parts: int) -> None:
    divided = balance(costs, parts)
    results = [[f"clip {index}" for index in part] for part in divided]
    assert merge_balanced(divided, results) == [f"clip {index}" for index in range(len(costs))]


def test_a_result_too_few_is_named_and_no_other_takes_its_place() -> None:
    with pytest.raises(ValueError, match="part 1 has 1 results for 2 items"):
        merge_balanced([[0, 2], [1, 3]], [["a", "c"], ["b"]])
    with pytest.raises(ValueError, match="not each of 0 to 2 once"):
        merge_balanced([[0, 1], [1]], [["a", "b"], ["b"]])


weighted = st.dictionaries(
    st.sampled_from("abcd"),
    st.tuples(st.lists(st.floats(0.1, 60.0), max_size=30), st.floats(0.1, 10.0)),
    min_size=1,
)


@given(weighted)
def test_audio_is_in_proportion_to_the_weights_as_long_as_a_dataset_lasts(
    datasets: dict[str, tuple[list[float], float]],
) -> None:
    durations = {name: lengths for name, (lengths, _) in datasets.items()}
    weights = {name: weight for name, (_, weight) in datasets.items()}
    left = {name: len(lengths) for name, lengths in durations.items()}
    taken_s = dict.fromkeys(durations, 0.0)
    mixed = list(mix(durations, weights))
    for name, index in mixed:
        if all(left.values()):
            shares = {dataset: taken_s[dataset] / weights[dataset] for dataset in durations}
            longest = max(max(lengths) / weights[dataset] for dataset, lengths in durations.items())
            assert max(shares.values()) - min(shares.values()) <= longest + 1e-6
        taken_s[name] += durations[name][index]
        left[name] -= 1
    assert mixed == list(mix(durations, weights))
    for name, lengths in durations.items():
        assert [index for dataset, index in mixed if dataset == name] == list(range(len(lengths)))


def test_weights_are_of_hours_and_not_of_items() -> None:
    mixed = itertools.islice(mix({"books": itertools.repeat(20.0), "commands": itertools.repeat(2.0)}, WEIGHTS), 1100)
    counts = {"books": 0, "commands": 0}
    for name, _ in mixed:
        counts[name] += 1
    assert counts == {"books": 100, "commands": 1000}


WEIGHTS = {"books": 1.0, "commands": 1.0}


def test_endless_datasets_are_read_one_length_at_a_time() -> None:
    drawn = {"a": 0, "b": 0}

    def endless(name: str) -> Iterator[float]:
        while True:
            drawn[name] += 1
            yield 3.0

    taken = list(itertools.islice(mix({name: endless(name) for name in drawn}, {"a": 3.0, "b": 1.0}), 400))
    assert sum(drawn.values()) <= len(taken) + 2
    assert abs(drawn["a"] - 300) <= 2


@pytest.mark.parametrize(
    ("durations", "weights", "says"),
    [
        ({"a": [1.0]}, {}, "a has only one of them"),
        ({"a": [1.0]}, {"a": 1.0, "b": 1.0}, "b has only one of them"),
        ({"a": [1.0]}, {"a": 0.0}, "weight 0.0 of a"),
        ({"a": [0.0]}, {"a": 1.0}, "item 0 of a is 0.0 s"),
        ({"a": [float("nan")]}, {"a": 1.0}, "item 0 of a"),
    ],
)
def test_what_cannot_be_mixed_is_refused(
    durations: dict[str, list[float]], weights: dict[str, float], says: str
) -> None:
    with pytest.raises(PlanError, match=says):
        list(mix(durations, weights))


@pytest.mark.parametrize(
    ("costs", "parts", "says"), [([1.0], 0, "parts=0"), ([-1.0], 1, "item 0"), ([1e400], 1, "inf")]
)
def test_what_cannot_be_balanced_is_refused(costs: list[float], parts: int, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        balance(costs, parts)
