"""The books of a run balance, in records and in audio, or the run fails loudly."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate import Gather, Pipeline, processing_stage
from curate.engine.accounting.counts import RecordCounts
from curate.errors import AccountingError, InfrastructureError
from curate.records import audio_ms
from curate.stages import Merge, ReadRecords


def test_the_identity() -> None:
    RecordCounts(records_in=5, children=4, kept=3, filtered=3, quarantined=1, split=2).check(measures_audio=False)
    with pytest.raises(AccountingError, match=r"5 in \+ 0 children \+ 0 joins != 3 kept \+ 1 filtered .* \(-1\)"):
        RecordCounts(records_in=5, kept=3, filtered=1).check(measures_audio=True)


def test_joined_parts_balance_with_their_joins() -> None:
    counts = RecordCounts(records_in=4, joins=1, joined=3, kept=2, in_ms=40, joins_ms=30, joined_ms=30, kept_ms=40)
    counts.check(measures_audio=False)
    assert (counts.processed, counts.measured_ms) == (2, 0)
    with pytest.raises(AccountingError, match=r"4 in .* \+ 0 joins != .* \+ 3 joined parts \(\+1\)"):
        RecordCounts(records_in=4, joined=3, kept=2).check(measures_audio=False)


def test_audio_has_to_balance_unless_a_stage_measures_it() -> None:
    books = RecordCounts(records_in=1, kept=1, in_ms=1000, kept_ms=1500)
    books.check(measures_audio=True)
    assert books.measured_ms == 500
    with pytest.raises(AccountingError, match=r"does not balance by \+0.500 s although no stage writes 'duration'"):
        books.check(measures_audio=False)


def test_books_add_up() -> None:
    total = RecordCounts(records_in=1, kept=1, in_ms=5)
    total.add(RecordCounts(records_in=2, filtered=2, in_ms=6))
    assert total == RecordCounts(records_in=3, kept=1, filtered=2, in_ms=11)


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (1.2345, 1235),
        (3, 3000),
        (None, 0),
        ("3", 0),
        (True, 0),
        (-1, 0),
        (float("nan"), 0),
        (float("inf"), 0),
        (10**400, 0),
        ([1], 0),
    ],
)
def test_audio_is_counted_in_whole_milliseconds(duration: object, expected: int) -> None:
    assert audio_ms({"duration": duration}) == expected
    assert audio_ms({}) == 0


def test_numpy_durations_count_as_what_they_are_stored_as() -> None:
    numpy = pytest.importorskip("numpy")
    assert audio_ms({"duration": numpy.float32(1.5)}) == 1500
    assert audio_ms({"duration": numpy.int64(2)}) == 2000


@processing_stage(name="stretches", writes=["speed"])
def stretches(record: dict) -> dict:
    return {**record, "duration": record["duration"] * 2, "speed": 0.5}


ROWS = [{"duration": 1.5}, {"duration": 2.0}]


def test_a_stage_that_changes_the_duration_without_saying_so_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(
        InfrastructureError, match=r"by \+3.500 s .* none of its stages \(stretches\) says .* 'duration'"
    ):
        Pipeline("p", [ReadRecords(ROWS), stretches, Merge("out.jsonl")]).run(run_dir=tmp_path)
    assert not (tmp_path / "out.jsonl").exists()  # nothing is published from books that do not balance
    assert list((tmp_path / "commits").iterdir()) == []


def test_a_stage_that_says_so_may_change_the_duration() -> None:
    @processing_stage(name="stretches", writes=["duration"])
    def stretches_openly(record: dict) -> dict:
        return {**record, "duration": record["duration"] * 2}

    hours = Pipeline("p", [ReadRecords(ROWS), stretches_openly]).run().summary["audio_hours"]
    assert hours["measured"] == round(3.5 / 3600, 6)


def test_a_gather_that_changes_the_duration_without_saying_so_is_found_out() -> None:
    class Stretches(Gather):
        def gather(self, records):
            for record in records:
                yield {**record, "duration": record["duration"] * 2}

    class Openly(Stretches):
        def writes(self):
            return ("duration",)

    with pytest.raises(AccountingError, match="no stage writes 'duration'"):
        Pipeline("p", [ReadRecords(ROWS), Stretches()]).run()
    Pipeline("p", [ReadRecords(ROWS), Openly()]).run()


def test_a_failed_record_that_cannot_be_stored_keeps_its_audio_in_the_books(tmp_path: Path) -> None:
    rows = [{"duration": 2.5, "score": float("nan")}, {"duration": 1.0, "score": 0.5}]
    result = Pipeline("p", [ReadRecords(rows), Merge("out.jsonl")]).run(run_dir=tmp_path)
    assert result.summary["quarantined"] == 1
    assert result.summary["audio_hours"]["quarantined"] == round(2.5 / 3600, 6)


def test_one_child_is_counted_as_a_child() -> None:
    @processing_stage(name="splits", cardinality="splits")
    def splits(record: dict) -> list[dict]:
        return [record]

    summary = Pipeline("p", [ReadRecords(ROWS), splits]).run().summary
    assert (summary["children"], summary["split_parents"], summary["kept"]) == (2, 2, 2)
