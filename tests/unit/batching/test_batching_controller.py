"""The controller: budgets shrink after an OOM, recover, and grow towards a target if asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.batching import BatchController, CostModel, LengthBatcher
from curate.batching.controller import PATIENCE
from curate.errors import PlanError


def clean(controller: BatchController, length_s: float, batches: int, peak_share: float | None = None) -> None:
    for _ in range(batches):
        controller.record_success(controller.max_items(length_s), length_s, peak_share)


def test_an_oom_shrinks_the_budget_of_its_length_class_alone() -> None:
    controller = BatchController(200.0)
    controller.record_oom(5.0)
    assert controller.scale(5.0) == pytest.approx(0.8)
    assert controller.scale(5.3) == pytest.approx(0.8), "the same class"
    assert controller.scale(20.0) == 1.0
    assert controller.max_items(5.0) == 32


def test_clean_batches_recover_it_step_by_step_and_no_further() -> None:
    controller = BatchController(200.0)
    controller.record_oom(5.0)
    clean(controller, 5.0, PATIENCE - 1)
    assert controller.scale(5.0) == pytest.approx(0.8)
    clean(controller, 5.0, 1)
    assert controller.scale(5.0) == pytest.approx(0.84)
    clean(controller, 5.0, 10 * PATIENCE)
    assert controller.scale(5.0) == 1.0
    assert [change.reason for change in controller.history] == ["oom", *["recovered"] * 5]


def test_an_oom_starts_the_count_of_clean_batches_anew() -> None:
    controller = BatchController(200.0)
    controller.record_oom(5.0)
    clean(controller, 5.0, PATIENCE - 1)
    controller.record_oom(5.0)
    clean(controller, 5.0, PATIENCE - 1)
    assert controller.scale(5.0) == pytest.approx(0.64)


def test_a_remainder_that_fits_proves_nothing() -> None:
    controller = BatchController(200.0)
    controller.record_oom(5.0)
    for _ in range(10 * PATIENCE):
        controller.record_success(2, 5.0)
    assert controller.scale(5.0) == pytest.approx(0.8)


def test_a_budget_is_never_below_one_item() -> None:
    controller = BatchController(200.0)
    for _ in range(100):
        controller.record_oom(50.0)
    assert controller.max_items(50.0) == 1
    assert controller.scale(50.0) == pytest.approx(0.25)
    controller.record_oom(500.0)
    assert controller.scale(500.0) == 1.0, "a lone item that is over the budget anyway changes nothing"


def test_sizes_stay_between_their_bounds() -> None:
    controller = BatchController.by_size(32, 4, 128, target_share=0.9)
    assert controller.max_items(5.0) == 32
    for _ in range(50):
        controller.record_oom(5.0)
    assert controller.max_items(5.0) == 4
    clean(controller, 5.0, 500 * PATIENCE, peak_share=0.2)
    assert controller.max_items(5.0) == 128


def test_nothing_grows_without_a_target_or_without_a_peak() -> None:
    silent = BatchController.by_size(32, 4, 128, target_share=0.9)
    clean(silent, 5.0, 10 * PATIENCE)
    untargeted = BatchController.by_size(32, 4, 128)
    clean(untargeted, 5.0, 10 * PATIENCE, peak_share=0.1)
    assert silent.max_items(5.0) == untargeted.max_items(5.0) == 32


def test_a_target_is_reached_and_not_passed() -> None:
    controller = BatchController(200.0, target_share=0.8)
    for _ in range(100 * PATIENCE):
        controller.record_success(controller.max_items(5.0), 5.0, peak_share=0.3 + 0.2 * controller.scale(5.0))
    assert 0.3 + 0.2 * controller.scale(5.0) == pytest.approx(0.8, rel=0.05)
    assert {change.reason for change in controller.history} == {"grew"}


def test_after_an_oom_growth_is_cautious() -> None:
    bold, burnt = (BatchController(200.0, target_share=0.9) for _ in range(2))
    burnt.record_oom(5.0)
    for controller in (bold, burnt):
        clean(controller, 5.0, 8 * PATIENCE, peak_share=0.2)
    assert burnt.scale(5.0) < 1.3 < bold.scale(5.0)


def test_the_history_says_what_happened_and_is_bounded() -> None:
    controller = BatchController(200.0)
    controller.record_oom(5.0)
    change = controller.history[0]
    assert change.from_s <= 5.0 < change.to_s
    assert (change.batch, change.reason, change.before, change.after) == (1, "oom", 1.0, pytest.approx(0.8))
    for _ in range(2000):
        controller.record_oom(5.0)
        clean(controller, 5.0, PATIENCE)
    assert len(controller.history) == 1000
    assert controller.ooms == 2001


@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 60.0), st.none() | st.floats(0.01, 1.0)), max_size=200))
def test_whatever_happens_factors_stay_within_their_bounds(events: list[tuple[bool, float, float | None]]) -> None:
    controller = BatchController(200.0, CostModel(b=0.05), highest=3.0, target_share=0.7)
    for failed, length_s, peak_share in events:
        if failed:
            controller.record_oom(length_s)
        else:
            controller.record_success(controller.max_items(length_s), length_s, peak_share)
        assert 0 < controller.scale(length_s) <= 3.0
        assert controller.max_items(length_s) >= 1


def test_a_planner_follows_its_controller() -> None:
    controller = BatchController.by_size(32, 4, 128)
    batcher = LengthBatcher(controller.budget, cost=controller.cost, scale=controller.scale)
    durations = [5.0] * 320
    assert {len(batch) for batch in batcher.plan(durations)} == {32}
    controller.record_oom(5.0)
    assert max(len(batch) for batch in batcher.plan(durations)) == controller.max_items(5.0) == 25


@pytest.mark.parametrize("sizes", [(32, 64, 128), (32, 0, 128), (32, 4, 16)])
def test_sizes_that_contradict_each_other_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(PlanError, match="must be in ascending order"):
        BatchController.by_size(*sizes)
    with pytest.raises(PlanError, match="between 0 and 1"):
        BatchController(target_share=80)
