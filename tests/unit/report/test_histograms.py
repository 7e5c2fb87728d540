"""Histograms: exact while few numbers differ, bounded always, and on scales with round numbers."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.report.histogram import Bars, Histogram


def histogram_of(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200))
def test_few_numbers_are_kept_exactly(values: list[float]) -> None:
    histogram = histogram_of(values)
    ordered = sorted(values)
    assert histogram.count == len(values)
    assert histogram.quantile(0.0) == ordered[0]
    assert histogram.quantile(1.0) == ordered[-1]
    assert histogram.quantile(0.5) in ordered


def test_many_numbers_take_bounded_memory_and_lose_little() -> None:
    chance = random.Random(0)
    values = [chance.lognormvariate(1.5, 0.8) for _ in range(50_000)]
    histogram = histogram_of(values)
    values.sort()
    assert len(list(histogram)) <= 4096
    assert sum(count for _, count in histogram) == 50_000
    for share in (0.1, 0.5, 0.9, 0.99):
        assert histogram.quantile(share) == pytest.approx(values[int(share * 50_000)], abs=0.05)


def test_the_order_of_the_numbers_changes_nothing() -> None:
    chance = random.Random(1)
    values = [chance.uniform(0, 1e4) for _ in range(20_000)]
    shuffled = values[:]
    chance.shuffle(shuffled)
    assert list(histogram_of(values)) == list(histogram_of(shuffled))


@given(st.lists(st.floats(-1e5, 1e5), min_size=1, max_size=100), st.lists(st.floats(-1e5, 1e5), max_size=3))
def test_bars_hold_every_number(values: list[float], include: list[float]) -> None:
    histogram = histogram_of(values)
    bars = Bars.over(histogram, include)
    assert bars is not None
    placed = bars.place(histogram)
    assert sum(placed) == len(values)
    assert 1 <= len(placed) <= 500


def test_a_long_tail_goes_into_the_last_bar() -> None:
    histogram = histogram_of([float(number % 10) for number in range(10_000)] + [1e6])
    bars = Bars.over(histogram)
    assert bars is not None and bars.beyond
    assert bars.start + bars.width * bars.bars < 20


def test_no_numbers_make_no_bars() -> None:
    assert Bars.over(Histogram()) is None


@pytest.mark.parametrize("value", [0.0, 6.02, -3.5, 1e6])
def test_column_with_one_value_gets_one_narrow_bar(value: float) -> None:
    histogram = Histogram()
    for _ in range(3):
        histogram.add(value)
    bars = Bars.over(histogram)
    assert bars is not None
    placed = bars.place(histogram)
    assert (len(placed), sorted(placed)[-2:]) == (9, [0, 3])
    at = bars.start + placed.index(3) * bars.width
    assert at - 1e-9 <= value <= at + bars.width
    assert bars.start >= 0 or value < 0
