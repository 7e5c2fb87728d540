"""How many batches travel ahead, how many together, and into how many pieces one is cut."""

from __future__ import annotations

import pytest

from curate.engine.scheduling.batch_sizer import AHEAD_S, LONG_BATCH_S, MAX_MERGED, MESSAGE_S, BatchSizer


def sizer(record_s: float, *, records: int = 10, merges: bool = True) -> BatchSizer:
    made = BatchSizer(8, merges=merges)
    made.record_batch(record_s * records, records, 1)
    return made


def test_batch_sizer_without_measurements_sends_one_batch_at_a_time() -> None:
    made = BatchSizer(8, merges=True)
    assert (made.depth, made.merge_limit) == (1, 1)


@pytest.mark.parametrize("merges", [True, False])
def test_batch_sizer_merges_quick_batches_only_where_it_may(merges: bool) -> None:
    assert sizer(1e-6, merges=merges).merge_limit == (MAX_MERGED if merges else 1)
    assert sizer(2 * MESSAGE_S, merges=merges).merge_limit == 1


def test_batch_sizer_keeps_long_batches_back() -> None:
    assert sizer(LONG_BATCH_S / 10).depth == 1
    assert sizer(AHEAD_S / 10).depth == 2


@pytest.mark.parametrize("idle", [0, 1, 3])
def test_split_count_is_the_number_of_idle_workers_while_more_work_comes(idle: int) -> None:
    assert sizer(0.1).split_count(30, waiting=30, workers=4, idle=idle, last=False) == max(1, idle)


def test_split_count_of_a_quick_batch_is_one() -> None:
    assert sizer(1e-6).split_count(100, waiting=100, workers=4, idle=4, last=True) == 1


def test_split_count_never_exceeds_the_records() -> None:
    assert sizer(1.0).split_count(2, waiting=2, workers=8, idle=8, last=True) == 2


def test_last_pieces_get_smaller_as_less_is_left() -> None:
    made, left, sizes = sizer(1.0), 60, []
    while left:
        pieces = made.split_count(left, waiting=left, workers=3, idle=0, last=True)
        size = -(-left // pieces)
        sizes.append(size)
        left -= size
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (10, 1)
