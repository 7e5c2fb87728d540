"""Measures add up: in any grouping, in bounded memory, and only what can be added."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.monitoring import add_measures
from curate.monitoring.measures import LAST
from curate.monitoring.spread import ERROR, mean, quantile, spread_of, standard_deviation

counts = st.integers(0, 1000)
parts = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "n": counts,
            "max_n": counts,
            "min_n": counts,
            "inner": st.fixed_dictionaries({}, optional={"n": counts, "max_n": counts}),
            "history": st.lists(counts, max_size=3),
        },
    ),
    max_size=8,
)


@given(parts, st.integers(0, 8))
def test_the_sum_does_not_depend_on_how_parts_were_grouped(given_parts: list[dict[str, Any]], cut: int) -> None:
    grouped = add_measures(add_measures(*given_parts[:cut]), add_measures(*given_parts[cut:]))
    assert grouped == add_measures(*given_parts)


def test_the_name_says_how_numbers_are_added() -> None:
    one = {"n": 1, "max_s": 3.0, "min_s": 3.0, "of": {"n": 2}, "history": ["a"]}
    two = {"n": 10, "max_s": 2.0, "min_s": 2.0, "of": {"n": 5, "m": 1}, "history": ["b"]}
    assert add_measures(one, two) == {
        "n": 11,
        "max_s": 3.0,
        "min_s": 2.0,
        "of": {"n": 7, "m": 1},
        "history": ["a", "b"],
    }
    assert one == {"n": 1, "max_s": 3.0, "min_s": 3.0, "of": {"n": 2}, "history": ["a"]}, "the parts are left alone"


def test_a_list_does_not_grow_without_end() -> None:
    total: dict[str, Any] = {}
    for number in range(3 * LAST):
        total = add_measures(total, {"history": [number]})
    assert total["history"] == list(range(2 * LAST, 3 * LAST))


@pytest.mark.parametrize("value", ["text", True, None, math.nan, math.inf, np.float32(1.0), (1, 2)])
def test_what_cannot_be_added_is_named(value: Any) -> None:
    with pytest.raises(TypeError, match=r"stage\.figure"):
        add_measures({"stage": {"figure": value}})


def test_a_measure_stays_of_its_kind() -> None:
    with pytest.raises(TypeError, match="cannot be added to 1"):
        add_measures({"n": 1}, {"n": [1]})


@given(st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=200), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_a_spread_knows_its_values_to_a_hundredth(values: list[float], share: float) -> None:
    spread = add_measures(*map(spread_of, values))
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    assert quantile(spread, share) == pytest.approx(exact, rel=ERROR * 1.001)
    assert mean(spread) == pytest.approx(np.mean(values))
    assert standard_deviation(spread) == pytest.approx(np.std(values), rel=1e-3, abs=1e-6 * max(values))


def test_a_spread_has_a_bound_however_many_values_there_are_and_survives_json() -> None:
    spread: dict[str, Any] = {}
    for number in range(20_000):
        spread = add_measures(spread, spread_of(1e-6 * 1.00126**number))
    assert len(spread["buckets"]) < 1300
    assert json.loads(json.dumps(spread)) == spread
    assert quantile(spread_of(0.0), 0.5) == 0.0
