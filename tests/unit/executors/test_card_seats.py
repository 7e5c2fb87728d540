"""Which worker gets which card."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from curate.errors import PlanError
from curate.executors.cards import Seats, seat
from curate.machine import Card
from curate.plan import Hop, PlannedStage
from curate.resources import Resources
from curate.stage_decorator import processing_stage

FOUR = [Card(str(number)) for number in range(4)]
BIG = [Card("0", 24.0), Card("1", 24.0)]


@processing_stage(name="asr")
def asr(record: dict) -> dict:
    return record


def hop(workers: int | None, **resources: Any) -> Hop:
    return Hop((PlannedStage("asr", "processing", asr, None),), Resources(**resources), workers)


def seated(hops: list[Hop], cards: list[Card]) -> list[list[tuple[str, ...]]]:
    """Return the cards of every worker, by hop."""
    taken = seat(hops, cards).taken
    return [[ids for (of, _), ids in sorted(taken.items()) if of == number] for number in range(len(hops))]


def test_whole_cards_halves_and_none() -> None:
    none, half, whole = seated([hop(3), hop(4, gpus=0.5), hop(2, gpus=1)], FOUR)
    assert none == [(), (), ()]
    assert len(set(whole)) == 2
    assert Counter(half) == {(card,): 2 for card in "0123" if (card,) not in whole}


def test_fractions_spread_over_the_cards_before_they_share_one() -> None:
    (half,) = seated([hop(4, gpus=0.5)], FOUR)
    assert sorted(half) == [("0",), ("1",), ("2",), ("3",)]


def test_a_worker_with_several_cards_has_them_alone() -> None:
    two, one = seated([hop(1, gpus=2), hop(2, gpus=1)], FOUR)
    assert sorted(card for ids in (*two, *one) for card in ids) == ["0", "1", "2", "3"]


def test_ids_are_those_of_cuda_visible_devices() -> None:
    (whole,) = seated([hop(2, gpus=1)], [Card("GPU-aa"), Card("5")])
    assert sorted(whole) == [("5",), ("GPU-aa",)]


@pytest.mark.parametrize(
    ("wanted", "fitting"), [(hop(5, gpus=1), 4), (hop(9, gpus=0.5), 8), (hop(3, gpus=2), 2), (hop(1, gpus=5), 0)]
)
def test_too_many_are_refused_with_figures(wanted: Hop, fitting: int) -> None:
    with pytest.raises(PlanError) as caught:
        seat([wanted], FOUR)
    assert caught.value.stage == "asr"
    assert f"stage 'asr' asks for {wanted.workers} worker" in str(caught.value)
    assert f"gpus={wanted.resources.gpus:g} each" in str(caught.value)
    assert f"only {fitting} fit on the cards that there are (0, 1, 2, 3)" in str(caught.value)
    assert f".with_(workers={max(1, fitting)})" in str(caught.value)


def test_the_other_stages_of_the_phase_count() -> None:
    with pytest.raises(PlanError, match="beside the other stages of its phase only 1 fit"):
        seat([hop(3, gpus=1), hop(2, gpus=1)], FOUR)


def test_no_cards_at_all() -> None:
    with pytest.raises(PlanError, match=r"only 0 fit on the cards that there are \(none\)"):
        seat([hop(None, gpus=0.5)], [])
    assert seated([hop(2)], []) == [[(), ()]]


def test_memory_decides_how_many_share_a_card() -> None:
    (shared,) = seated([hop(6, gpu_memory_gb=8.0)], BIG)
    assert Counter(shared) == {("0",): 3, ("1",): 3}
    with pytest.raises(PlanError, match=r"gpu_memory_gb=8 each, .* only 6 fit .*0 with 24 GB, 1 with 24 GB"):
        seat([hop(7, gpu_memory_gb=8.0)], BIG)


def test_share_and_memory_must_both_fit() -> None:
    (halves,) = seated([hop(2, gpus=0.5, gpu_memory_gb=20.0)], BIG)
    assert sorted(halves) == [("0",), ("1",)]
    with pytest.raises(PlanError, match=r"gpus=0.5 and gpu_memory_gb=20 each, .*only 2 fit"):
        seat([hop(3, gpus=0.5, gpu_memory_gb=20.0)], BIG)
    with pytest.raises(PlanError, match="only 0 fit"):
        seat([hop(1, gpu_memory_gb=30.0)], BIG)


def test_the_smaller_card_is_left_out_where_memory_is_asked_for() -> None:
    (one,) = seated([hop(1, gpus=1, gpu_memory_gb=16.0)], [Card("0", 8.0), Card("1", 24.0)])
    assert one == [("1",)]


def test_what_is_given_back_can_be_taken_again() -> None:
    seats, wanted = Seats(BIG), Resources(gpus=0.5, gpu_memory_gb=10.0)
    taken = [seats.take(wanted) for _ in range(4)]
    assert seats.take(wanted) is None
    assert seats.left(wanted) == 0
    for ids in taken:
        assert ids is not None
        seats.give_back(ids, wanted)
    assert seats.left(wanted) == 4
    assert seats.left(Resources(gpus=1)) == 2


def test_thirds_of_a_card_add_up() -> None:
    assert Seats([Card("0")]).left(Resources(gpus=1 / 3)) == 3
    assert Seats([Card("0")]).left(Resources(gpus=0.1)) == 10


def test_where_the_memory_of_a_card_is_unknown_it_is_not_shared_by_memory() -> None:
    """Nobody can say how many would fit, so it is one."""
    seats, wanted = Seats(FOUR), Resources(gpu_memory_gb=8.0)
    assert seats.left(wanted) == 4
    assert [seats.take(wanted) for _ in range(5)] == [("0",), ("1",), ("2",), ("3",), None]
