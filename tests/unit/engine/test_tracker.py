"""The tracker knows which of a phase's inputs are finished."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from curate.engine.accounting.counts import FinishedInputs
from curate.engine.protocol.messages import Filtered, NewFile, PartialResult, Quarantined, Split
from curate.engine.scheduling.tracker import InFlightTracker
from curate.errors import AccountingError, InfrastructureError


def record(identity: str, **columns: Any) -> dict[str, Any]:
    return {"_id": identity, **columns}


def kept(number: int, *ids: str, roots: list[str] | None = None, **notes: Any) -> PartialResult:
    return PartialResult(number, [record(each) for each in ids], roots or list(ids), [0] * len(ids), **notes)


def settle(
    tracker: InFlightTracker, hop: int, result: PartialResult, records: Sequence[dict[str, Any]] = (), onward: int = 0
) -> tuple[FinishedInputs | None, list[dict[str, Any]]]:
    return tracker.settle(hop, result, records, onward)


def whole(number: int, records: list[dict[str, Any]], *, came: list[int], kept: list[int]) -> PartialResult:
    return PartialResult(number, list(records), None, kept, input_ms=came)


def test_a_batch_that_stays_whole_is_settled_at_once() -> None:
    tracker = InFlightTracker(last_hop=0)
    given = [record("a", duration=1.5), record("b")]
    tracker.add_batch(1, given, [4, 5])
    settled, forward = settle(tracker, 0, whole(1, given, came=[1500, 0], kept=[1500, 250]), given, onward=2)
    assert settled is not None
    assert (list(settled.seqs), list(settled.row_seqs), settled.ids) == ([4, 5], [4, 5], ["a", "b"])
    assert (settled.in_ms, settled.each_ms, settled.kept_ms) == (1500, [1500, 0], 1750)
    assert forward == []
    assert tracker.empty


def test_parts_that_come_to_a_whole_batch_settle_it_too() -> None:
    tracker = InFlightTracker(last_hop=0)
    tracker.add_batch(1, [record("a", duration=1.5), record("b")], [4, 5])
    settled, _ = settle(tracker, 0, kept(1, "a", "b"))
    assert settled is not None
    assert (list(settled.seqs), settled.in_ms, settled.each_ms) == ([4, 5], 1500, [1500, 0])
    assert tracker.empty


@pytest.mark.parametrize("tracked", [False, True])
def test_batch_that_one_result_finishes_is_settled_as_its_records_would_be(tracked: bool) -> None:
    tracker = InFlightTracker(last_hop=0)
    tracker.add_batch(1, [record("a", duration=1.5), record("b", duration=2.0), record("c")], [4, 5, 9])
    if tracked:
        tracker.track_individually(1)
    notes: Any = {
        "filtered": [Filtered("b", record("b"), "f", "no")],
        "quarantined": [Quarantined("a", record("a"), "s", "bad_value", "m", "", 1)],
        "files": [NewFile("c", "audio/x.flac", 1, "00")],
    }
    settled, forward = settle(tracker, 0, PartialResult(1, [b"{}\n"], ["c"], [250], **notes))
    assert settled is not None and forward == [] and tracker.empty
    assert (settled.rows, list(settled.row_seqs), settled.kept_ms, settled.in_ms) == ([b"{}\n"], [9], 250, 3500)
    assert dict(zip(settled.seqs, zip(settled.ids, settled.each_ms, strict=True), strict=True)) == {
        4: ("a", 1500),
        5: ("b", 2000),
        9: ("c", 0),
    }
    assert settled.filtered == [(5, notes["filtered"][0])]
    assert settled.quarantined == [(4, notes["quarantined"][0])]
    assert settled.files == [(9, notes["files"][0])]


@pytest.mark.parametrize("end", ["whole", "broken up", "in parts", "merged"])
def test_a_batch_stays_whole_from_hop_to_hop(end: str) -> None:
    """What it came in with is what the first worker has told, whatever the later ones say."""
    tracker = InFlightTracker(last_hop=1)
    given, other = [record("a"), record("b")], [record("c")]
    tracker.add_batch(1, given, [4, 5])
    tracker.add_batch(2, other, [6])
    settled, forward = settle(tracker, 0, whole(1, given, came=[7, 8], kept=[9, 9]), given, onward=3)
    assert settled is None and forward == given and not tracker.empty
    settle(tracker, 0, whole(2, other, came=[1], kept=[1]), other, onward=4)
    done = whole(3, given, came=[9, 9], kept=[10, 10])
    if end == "merged":
        tracker.merge([3, 4], 5, given + other)
        settled, _ = settle(tracker, 1, whole(5, given + other, came=[9, 9, 1], kept=[2, 2, 2]), given + other, 0)
        expected: Any = ([4, 5, 6], [7, 8, 1], 6)
    else:
        if end == "broken up":
            tracker.track_individually(3)
        if end == "in parts":
            settled, _ = settle(tracker, 1, PartialResult(3, [*given], ["a", "b"], [10, 10]))
        else:
            settled, _ = settle(tracker, 1, done, given, onward=0)
        settle(tracker, 1, whole(4, other, came=[1], kept=[1]), other, onward=0)
        expected = ([4, 5], [7, 8], 20)
    assert settled is not None
    assert (list(settled.seqs), settled.each_ms, settled.kept_ms) == expected
    assert tracker.empty


def test_a_batch_that_is_not_whole_when_it_is_merged_is_looked_after_record_by_record() -> None:
    tracker = InFlightTracker(last_hop=0)
    given = [record("a"), record("b"), record("c")]
    tracker.add_batch(1, given[:2], [0, 1])
    tracker.add_batch(2, given[2:], [2])
    tracker.track_individually(1)
    tracker.merge([1, 2], 3, given)
    settled, _ = settle(tracker, 0, whole(3, given, came=[0, 0, 0], kept=[0, 0, 0]), given, onward=0)
    assert settled is not None and list(settled.seqs) == [0, 1, 2]
    assert tracker.empty


def test_a_worker_that_says_it_has_kept_all_must_have_done_so() -> None:
    tracker = InFlightTracker(last_hop=0)
    given = [record("a"), record("b")]
    tracker.add_batch(1, given, [0, 1])
    with pytest.raises(AccountingError, match="1 records as the whole of 2"):
        settle(tracker, 0, whole(1, given[:1], came=[0], kept=[0]), given, onward=0)


def test_a_batch_is_settled_in_parts() -> None:
    tracker = InFlightTracker(last_hop=0)
    tracker.add_batch(1, [record("a"), record("b"), record("c")], [0, 1, 2])
    first, _ = settle(tracker, 0, kept(1, "c"))
    assert first is not None
    assert first.seqs == [2]
    assert not tracker.empty
    assert tracker.described() == "a, b"
    second, _ = settle(tracker, 0, kept(1, "b", "a"))
    assert second is not None
    assert sorted(second.seqs) == [0, 1]
    assert tracker.empty


def test_a_record_that_became_one_child_is_a_split_all_the_same() -> None:
    tracker = InFlightTracker(last_hop=0)
    tracker.add_batch(1, [record("a")], [0])
    split = Split("a", "s", 1, 0, 0)
    settled, _ = settle(tracker, 0, PartialResult(1, [record("a/0")], ["a"], [0], splits=[split]))
    assert settled is not None
    assert settled.splits == [split]


def test_a_root_is_finished_with_its_last_descendant() -> None:
    tracker = InFlightTracker(last_hop=1)
    tracker.add_batch(1, [record("a", duration=2.0)], [7])
    split = Split("a", "s", 3, 2000, 2000)
    settled, forward = settle(tracker, 0, kept(1, "a/0", "a/1", "a/2", roots=["a", "a", "a"], splits=[split]))
    assert settled is None
    assert [child["_id"] for child in forward] == ["a/0", "a/1", "a/2"]
    assert settle(tracker, 1, kept(2, "a/2"))[0] is None
    note = Filtered("a/1", record("a/1"), "f", "no")
    assert settle(tracker, 1, PartialResult(3, [], [], [], filtered=[note]))[0] is None
    settled, _ = settle(tracker, 1, kept(4, "a/0"))
    assert settled is not None
    assert settled.seqs == [7]
    # in order, though they came back in any
    assert [row["_id"] for row in cast("list[Any]", settled.rows)] == ["a/0", "a/2"]
    assert settled.filtered == [(7, note)]
    assert settled.books().children == 3
    assert tracker.empty


def test_children_of_children_stay_in_order_through_hops() -> None:
    tracker = InFlightTracker(last_hop=1)
    tracker.add_batch(1, [record("a")], [0])
    settle(tracker, 0, kept(1, *[f"a/{k}" for k in range(12)], roots=["a"] * 12, splits=[Split("a", "s", 12, 0, 0)]))
    settled = None
    for k in reversed(range(12)):
        part = kept(2, f"a/{k}/0", f"a/{k}/1", roots=[f"a/{k}"] * 2, splits=[Split(f"a/{k}", "t", 2, 0, 0)])
        settled, _ = settle(tracker, 1, part)
    assert settled is not None
    assert [row["_id"] for row in cast("list[Any]", settled.rows)] == [
        f"a/{k}/{j}" for k in range(12) for j in range(2)
    ]


def test_a_record_may_fail_while_its_neighbours_go_on() -> None:
    tracker = InFlightTracker(last_hop=1)
    tracker.add_batch(1, [record("a"), record("b")], [0, 1])
    note = Quarantined("a", record("a"), "s", "oom", "", "", 1)
    settled, forward = settle(tracker, 0, kept(1, "b", quarantined=[note]))
    assert settled is not None
    assert settled.quarantined == [(0, note)]
    assert forward == [record("b")]


def test_an_outcome_of_a_record_that_is_not_in_flight_is_an_accounting_error() -> None:
    tracker = InFlightTracker(last_hop=0)
    tracker.add_batch(1, [record("a"), record("b")], [0, 1])
    with pytest.raises(AccountingError, match="finished z, which it was not given"):
        settle(tracker, 0, kept(1, "z"))
    tracker = InFlightTracker(last_hop=0)
    tracker.add_batch(1, [record("a"), record("b")], [0, 1])
    settle(tracker, 0, kept(1, "a"))
    with pytest.raises(AccountingError, match="finished a, which"):
        settle(tracker, 0, kept(1, "a"))


def test_two_records_with_one_id_in_flight_are_refused() -> None:
    tracker = InFlightTracker(last_hop=1)
    tracker.add_batch(1, [record("a")], [0])
    tracker.add_batch(2, [record("a")], [1])
    settle(tracker, 0, kept(1, "a"))
    with pytest.raises(InfrastructureError, match="two records have the same id a"):
        settle(tracker, 0, kept(2, "a"))
