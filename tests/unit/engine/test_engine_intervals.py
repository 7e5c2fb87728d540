"""Sets of positions as intervals."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from curate.engine.durability.positions import Intervals, ranges_of

positions = st.sets(st.integers(0, 60))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 8))))
def test_intervals_hold_what_a_set_holds(spans: list[tuple[int, int]]) -> None:
    expected = {position for first, length in spans for position in range(first, first + length + 1)}
    intervals = Intervals((first, first + length) for first, length in spans)
    assert {position for position in range(70) if position in intervals} == expected
    assert len(intervals) == len(expected)
    assert intervals.end == max(expected, default=-1) + 1
    pieces = list(intervals)
    assert all(last + 1 < first for (_, last), (first, _) in itertools.pairwise(pieces))


@given(positions, st.data())
def test_ranges_count_the_rows_of_runs_without_gaps(chosen: set[int], data: st.DataObject) -> None:
    seqs = sorted(chosen)
    counts = {seq: data.draw(st.integers(0, 3)) for seq in seqs}
    alone = data.draw(st.sets(st.sampled_from(seqs))) if seqs else set()
    rows = [seq for seq in seqs for _ in range(counts[seq])]
    ranges = ranges_of(seqs, rows, alone)
    assert [seq for first, last, _ in ranges for seq in range(first, last + 1)] == seqs
    assert [count for _, _, count in ranges] == [
        sum(counts[seq] for seq in range(first, last + 1)) for first, last, _ in ranges
    ]
    assert {first for first, last, _ in ranges if first == last} >= alone


def test_one_run_is_one_range() -> None:
    assert ranges_of(range(5, 9), [5, 5, 8]) == [(5, 8, 3)]


def test_nothing_is_no_range() -> None:
    assert ranges_of([], []) == []
    assert list(Intervals()) == []
    assert 0 not in Intervals()
    assert Intervals().end == 0
