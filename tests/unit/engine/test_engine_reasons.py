"""Why records left: grouped by clause, bounded, added up over commits."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate import Pipeline
from curate.engine.accounting.reasons import MAX_REASONS, OTHER_REASONS, add_reasons, clause_of, count_reasons
from curate.stages import Merge, QualityFilter, ReadRecords


@pytest.mark.parametrize(
    ("reason", "clause"),
    [
        ("wer <= 0.3 (wer = 0.52)", "wer <= 0.3"),
        ("x in (1, 2) (x = 3)", "x in (1, 2)"),
        ("(a + b) / 2 < 3 (a = 1, b = 9)", "(a + b) / 2 < 3"),
        ("text != 'x' (text = 'f(y = 2) (z = 3)')", "text != 'x'"),
        ("longer than the longest bucket", "longer than the longest bucket"),
        ("too short (by far)", "too short (by far)"),
    ],
)
def test_a_reason_is_grouped_by_what_does_not_depend_on_the_record(reason: str, clause: str) -> None:
    assert clause_of(reason) == clause


def test_reasons_are_counted_with_their_audio_and_the_most_frequent_come_first() -> None:
    notes = [("s", "rare", {"duration": 1.0}), *[("s", "often", {"duration": 0.5})] * 3, ("t", "rare", {})]

    counted = count_reasons(notes)

    assert {stage: dict(reasons) for stage, reasons in counted.items()} == {
        "s": {"often": [3, 1500], "rare": [1, 1000]},
        "t": {"rare": [1, 0]},
    }
    assert list(counted["s"]) == ["often", "rare"]


def test_no_more_reasons_are_told_apart_than_the_bound() -> None:
    notes = [("s", f"because of {number}", {"duration": 1.0}) for number in range(100)]

    once = count_reasons(notes)["s"]
    twice = add_reasons([once, once])

    assert len(once) == len(twice) == MAX_REASONS + 1
    assert once[OTHER_REASONS] == [100 - MAX_REASONS, (100 - MAX_REASONS) * 1000]
    assert sum(records for records, _ in twice.values()) == 200
    assert list(twice)[-1] == OTHER_REASONS


def pipeline() -> Pipeline:
    rows = [{"wer": number / 10, "duration": 36.0} for number in range(10)]
    return Pipeline("p", [ReadRecords(rows), QualityFilter("wer > 0.1 and wer < 0.9"), Merge("out.jsonl")])


def test_the_summary_has_them_by_stage(tmp_path: Path) -> None:
    by_stage = pipeline().run(run_dir=tmp_path).summary["by_stage"]

    assert by_stage["quality_filter"]["reasons"] == {
        "wer > 0.1": {"records": 2, "audio_hours": 0.02},
        "wer < 0.9": {"records": 1, "audio_hours": 0.01},
    }
    assert by_stage["merge"]["reasons"] == by_stage["merge"]["codes"] == {}
