"""Positions of a phase's input: a failure that is mended later moves nobody."""

from __future__ import annotations

import heapq
import random
import tracemalloc
from itertools import islice

import pytest

from curate.engine.durability.positions import GAP, InputPositions, Intervals, Ranges, positions_after


def behind(before: InputPositions, *ranges: tuple[int, int, int], apart: tuple[int, ...] = ()) -> InputPositions:
    return positions_after(before, ranges, frozenset(apart))


def test_without_failures_rows_are_counted() -> None:
    places = behind(InputPositions(), (0, 4, 3), (5, 5, 2), (6, 9, 4))
    assert places == InputPositions(((0, 9),))
    assert list(places) == list(range(9))
    assert places.total == 9


def test_a_failure_leaves_a_slot_and_a_mended_one_fills_it() -> None:
    failed = behind(InputPositions(), (0, 1, 2), (2, 2, 0), (3, 4, 2), apart=(2,))
    mended = behind(InputPositions(), (0, 1, 2), (2, 2, 3), (3, 4, 2), apart=(2,))
    assert list(failed) == [0, 1, 2 + GAP, 3 + GAP]
    assert list(mended) == [0, 1, 2, 3, 4, 2 + GAP, 3 + GAP]
    assert failed.retry_gaps == mended.retry_gaps == (2,)
    assert mended.gap_origins == (2,)
    assert [mended.gap_of(position) for position in (1, 2, 4, 1 + GAP, 2 + GAP)] == [None, 2, 2, 2, None]


def test_slots_are_handed_down_whether_they_hold_something_or_not() -> None:
    before = behind(InputPositions(), (0, 0, 0), (1, 1, 2), (2, 2, 1), (3, 3, 0), apart=(0, 1, 3))
    assert before.retry_gaps == (0, GAP, 2 * GAP + 1)
    first, second, plain = GAP, GAP + 1, 2 * GAP
    places = behind(before, (first, first, 1), (second, second, 2), (plain, plain, 1), apart=(first, second))
    assert places.retry_gaps == (0, GAP, 2 * GAP + 1)
    assert places.gap_origins == before.retry_gaps
    assert list(places) == [GAP, GAP + 1, GAP + 2, 2 * GAP]


def test_whether_all_is_done() -> None:
    places = behind(InputPositions(), (0, 1, 2), (2, 2, 1), (3, 4, 2), apart=(2,))
    all_done = [(0, 2), (2 + GAP, 3 + GAP)]
    assert places.holds_exactly(Intervals(all_done))
    assert not places.holds_exactly(Intervals(all_done[:1]))
    assert not places.holds_exactly(Intervals([*all_done, (4 + GAP, 4 + GAP)]))
    assert not places.holds_exactly(Intervals([(0, 3), all_done[1]]))


def test_where_nobody_knows_how_many_there_are_they_are_counted() -> None:
    places = InputPositions()
    assert list(islice(places, 3)) == [0, 1, 2]
    assert places.total is None
    assert places.holds_exactly(Intervals([(0, 5)]))
    assert not places.holds_exactly(Intervals([(0, 2), (4, 5)]))


@pytest.mark.parametrize("ranges", [[], [(0, 3, 2)], [(0, 3, 2), (5, 5, 0), (2 * GAP, 2 * GAP, 7)]])
def test_ranges_are_what_was_put_in(ranges: list[tuple[int, int, int]]) -> None:
    found = Ranges(ranges)
    assert list(found) == ranges
    assert [found[number] for number in range(len(found))] == ranges
    assert found == Ranges(ranges)
    assert [found.rows_at(first) for first, _, _ in ranges] == [rows for _, _, rows in ranges]
    assert found.rows_at(99) == 0


def test_ranges_of_many_compressed_pieces_are_what_was_put_in() -> None:
    positions = sorted(random.Random(1).sample(range(4 * GAP), 3000))
    ranges = [(first, first + step % 3 * (first % 2), step % 5) for step, first in enumerate(positions)]
    found = Ranges(ranges)
    assert list(found) == ranges
    assert (found[0], found[1700], found[-1], found[600:603]) == (ranges[0], ranges[1700], ranges[-1], ranges[600:603])
    assert found.rows_at(ranges[1703][0]) == ranges[1703][2]
    assert found.rows_at(ranges[-1][1] + 1) == 0
    with pytest.raises(ValueError, match="do not ascend"):
        Ranges((first, first, 1) for first in range(40, 0, -2))


def test_positions_of_scattered_units_take_few_bytes_a_record() -> None:
    """Units of a hundred workers that finish in any order: hardly any two of a unit's records are neighbours."""
    records, units = 200_000, 20
    unit_of = random.Random(1).choices(range(units), k=records)
    tracemalloc.start()
    ranges = [
        Ranges((position, position, 1) for position, unit in enumerate(unit_of) if unit == number)
        for number in range(units)
    ]
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    done = Intervals(((first, last) for first, last, _ in heapq.merge(*ranges)), ascending=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert list(done) == [(0, records - 1)]
    assert held <= 4 * records
    assert peak - held <= 5 * records
