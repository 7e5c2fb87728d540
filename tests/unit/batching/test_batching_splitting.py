"""Running a batch that may not fit: what is done stays done, what fails is split, each item ends in one place."""

from __future__ import annotations

import weakref

from hypothesis import given
from hypothesis import strategies as st

from curate.batching import Finished, Unfit, run_splitting


class Tensor:
    """Something that is seen to be freed."""


def is_memory_error(error: BaseException) -> bool:
    return isinstance(error, MemoryError)


@given(
    st.lists(st.floats(0.1, 40.0), max_size=40),
    st.floats(0.0, 300.0),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_every_item_is_finished_or_unfit_once_within_2n_minus_1_attempts(
    lengths: list[float], memory_s: float, knows_lengths: bool, chance: object
) -> None:
    attempts = 0
    failed: list[int] = []

    def work(items: list[int]) -> list[int]:
        nonlocal attempts
        attempts += 1
        if len(items) * max(lengths[item] for item in items) > memory_s:
            raise MemoryError("cannot allocate")
        return [-item for item in items]

    parts = list(
        run_splitting(
            range(len(lengths)),
            work,
            is_oom=is_memory_error,
            on_oom=lambda items, message: failed.append(len(items)),
            length_s=lengths.__getitem__ if knows_lengths else None,
        )
    )
    finished = [item for part in parts if isinstance(part, Finished) for item in part.items]
    unfit = [part.item for part in parts if isinstance(part, Unfit)]
    assert sorted(finished + unfit) == list(range(len(lengths)))
    assert all(part.result == [-item for item in part.items] for part in parts if isinstance(part, Finished))
    assert all(lengths[item] > memory_s for item in unfit)
    assert attempts <= max(0, 2 * len(lengths) - 1)
    assert len(failed) == attempts - sum(isinstance(part, Finished) for part in parts)


@given(st.integers(1, 30), st.randoms(use_true_random=False))
def test_ooms_at_random_lose_and_repeat_nothing(count: int, chance: object) -> None:
    def work(items: list[int]) -> None:
        if chance.random() < 0.5:  # type: ignore[attr-defined]
            raise MemoryError

    parts = list(run_splitting(range(count), work, is_oom=is_memory_error))
    places = [item for part in parts for item in (part.items if isinstance(part, Finished) else [part.item])]
    assert sorted(places) == list(range(count))


def test_a_batch_that_fits_is_tried_once_and_keeps_its_order() -> None:
    parts = list(run_splitting([3, 1, 2], lambda items: items, is_oom=is_memory_error))
    assert parts == [Finished([3, 1, 2], [3, 1, 2])]


def test_finished_parts_are_given_out_before_the_rest_is_tried() -> None:
    tried: list[list[int]] = []

    def work(items: list[int]) -> None:
        tried.append(items)
        if len(items) > 2:
            raise MemoryError

    parts = run_splitting(range(4), work, is_oom=is_memory_error)
    assert next(parts) == Finished([0, 1], None)
    assert tried == [[0, 1, 2, 3], [0, 1]]


def test_the_split_halves_the_cost_and_not_the_count() -> None:
    seconds = [40.0, *[5.0] * 16]
    tried: list[float] = []

    def work(items: list[float]) -> None:
        tried.append(len(items) * max(items))
        if tried[-1] > 100:
            raise MemoryError

    list(run_splitting(seconds, work, is_oom=is_memory_error, length_s=lambda item: item))
    assert tried == [17 * 40.0, 40.0, 80.0], "the longest alone, and the 16 short ones"


def test_memory_of_the_failed_attempt_is_free_when_on_oom_is_called() -> None:
    alive: list[weakref.ref[Tensor]] = []
    freed: list[bool] = []

    def work(items: list[int]) -> None:
        tensor = Tensor()
        alive.append(weakref.ref(tensor))
        if len(items) > 1:
            raise MemoryError

    def on_oom(items: list[int], message: str) -> None:
        freed.append(all(reference() is None for reference in alive))

    list(run_splitting(range(4), work, is_oom=is_memory_error, on_oom=on_oom))
    assert freed == [True, True, True]


def test_the_result_of_a_part_is_not_held_while_the_next_is_tried() -> None:
    results: list[weakref.ref[Tensor]] = []

    def work(items: list[int]) -> Tensor:
        assert all(reference() is None for reference in results)
        if len(items) > 1:
            raise MemoryError
        result = Tensor()
        results.append(weakref.ref(result))
        return result

    parts = run_splitting(range(3), work, is_oom=is_memory_error)
    for part in parts:
        assert isinstance(part, Finished)
        del part
    assert len(results) == 3


def test_an_unfit_item_keeps_the_message_and_not_the_error() -> None:
    def work(items: list[str]) -> None:
        raise MemoryError("tried to allocate 20 GiB")

    assert list(run_splitting(["a"], work, is_oom=is_memory_error)) == [
        Unfit("a", "MemoryError: tried to allocate 20 GiB")
    ]
    assert list(run_splitting([], work, is_oom=is_memory_error)) == []
