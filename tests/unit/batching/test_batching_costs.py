"""The cost model: fitted to what was measured, never below 0, never below a sample."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.batching import ITEMS, PADDED_SECONDS, Calibration, CostModel
from curate.errors import PlanError

GRID = [(n, length_s) for n in (1, 2, 4, 8, 16, 32) for length_s in (1.0, 2.5, 5.0, 10.0, 20.0, 40.0)]


@pytest.mark.parametrize("truth", [(3e8, 2e6, 1e5), (0.0, 2e6, 0.0), (5e8, 0.0, 3e5), (0.0, 1.0, 1e-3)])
def test_a_model_is_found_again_from_its_own_costs(truth: tuple[float, float, float]) -> None:
    real = CostModel(*truth)
    found = CostModel.fit((n, length_s, real.cost(n, length_s)) for n, length_s in GRID)
    assert found.safety == pytest.approx(1.0, abs=1e-6)
    for n, length_s in [(3, 7.0), (64, 33.0), (1, 0.5)]:
        assert found.cost(n, length_s) == pytest.approx(real.cost(n, length_s), rel=1e-6)


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(0.1, 60.0), st.floats(1.0, 1e10)), min_size=1, max_size=30))
def test_no_sample_costs_more_than_the_model_says(samples: list[tuple[int, float, float]]) -> None:
    model = CostModel.fit(samples)
    assert min(model.c0, model.a, model.b) >= 0
    for n, length_s, cost in samples:
        assert cost <= model.cost(n, length_s) * (1 + 1e-6)


@given(
    st.builds(CostModel, st.floats(0, 10), st.floats(0, 5), st.floats(0, 2), per_item=st.floats(0, 3)),
    st.floats(0.1, 1e4),
    st.floats(0.05, 100.0),
)
def test_the_most_that_fits_is_the_most_that_fits(model: CostModel, budget: float, length_s: float) -> None:
    import numpy as np

    most = model.max_items(budget, length_s)
    assert most == 0 or model.cost(most, length_s) <= budget * (1 + 2e-9)
    assert most >= 2**40 or model.cost(most + 1, length_s) > budget
    assert int(model.caps(budget, np.array([length_s]))[0]) == most


def test_what_costs_nothing_is_not_bounded_by_the_budget() -> None:
    import numpy as np

    free = CostModel(a=0.0)
    assert free.max_items(1.0, 5.0) == free.caps(1.0, np.array([5.0]))[0] == 2**40


def test_padded_seconds_and_items_count_what_they_say() -> None:
    assert PADDED_SECONDS.cost(4, 2.5) == 10.0
    assert ITEMS.cost(4, 2.5) == 4.0
    assert PADDED_SECONDS.max_items(200.0, 40.0) == 5
    assert PADDED_SECONDS.max_items(0.3, 0.1) == 3, "three times 0.1 is above 0.3 in the last bit only"


@pytest.mark.parametrize("samples", [[], [(0, 1.0, 1.0)], [(1, 1.0, float("nan"))], [(1, 1.0, -1.0)]])
def test_a_fit_needs_samples_above_zero(samples: list[tuple[int, float, float]]) -> None:
    with pytest.raises(PlanError, match="samples"):
        CostModel.fit(samples)


def test_observed_peaks_refine_the_model_in_bounded_memory() -> None:
    guessed = CostModel(c0=1e8, a=1e6, b=1e4)
    calibration = Calibration((n, length_s, guessed.cost(n, length_s)) for n, length_s in GRID)
    before = calibration.model()
    for repeat in range(1000):
        calibration.observe(24, 21.0 + repeat % 3 / 100, 1.3 * guessed.cost(24, 21.0))
        calibration.observe(24, 21.0, 0.5 * guessed.cost(24, 21.0))
    after = calibration.model()
    assert before.cost(24, 21.0) == pytest.approx(guessed.cost(24, 21.0), rel=1e-6)
    assert after.cost(24, 21.0) >= 1.29 * guessed.cost(24, 21.0)
    assert len(calibration._worst) <= len(GRID) + 2


def test_a_calibration_without_observations_has_no_model() -> None:
    with pytest.raises(PlanError):
        Calibration().model()
