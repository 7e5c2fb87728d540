"""Filters: what stays, and the reason that each of the others is given."""

from __future__ import annotations

from typing import Any

import pytest

from curate import Pipeline
from curate.errors import PlanError
from curate.records import Record
from curate.stages import QualityFilter, ReadRecords, ValueFilter


def run(stage: QualityFilter | ValueFilter, *records: Record) -> tuple[list[Any], list[str], list[tuple[str, str]]]:
    """The column `n` of what was kept; the reasons of what was left out; ids and codes of what failed."""
    result = Pipeline("p", [ReadRecords([{"n": n, **record} for n, record in enumerate(records, 1)]), stage]).run()
    return (
        [record["n"] for record in result.records()],
        [note.reason for note in result.filtered],
        [(note.record["_id"], note.code) for note in result.quarantined],
    )


def test_the_reason_is_the_clause_that_failed_with_its_values() -> None:
    kept, reasons, failed = run(
        QualityFilter("wer <= 0.3 and 0.5 <= duration <= 30"),
        {"wer": 0.1, "duration": 2.0},
        {"wer": 0.52, "duration": 99.0},
        {"wer": 0.0, "duration": 31.5},
    )
    assert kept == [1]
    assert reasons == ["wer <= 0.3 (wer = 0.52)", "0.5 <= duration <= 30 (duration = 31.5)"]
    assert not failed


def test_a_record_that_cannot_be_judged_goes_to_quarantine() -> None:
    kept, reasons, failed = run(QualityFilter("wer <= 0.3"), {"wer": 0.1}, {"wer": None}, {"wer": "low"}, {"other": 1})
    assert (kept, reasons) == ([1], [])
    assert failed == [("records:2", "missing_column"), ("records:3", "bad_value"), ("records:4", "missing_column")]


def test_a_column_that_nobody_writes_is_a_mistake_in_the_plan() -> None:
    with pytest.raises(PlanError, match="'wre'"):
        run(QualityFilter("wre <= 0.3"), {"wer": 0.1})


def test_a_column_that_may_be_missing_is_no_mistake_if_the_expression_says_so() -> None:
    kept, reasons, _ = run(QualityFilter("snr is None or snr > 10"), {"wer": 0.1})
    assert (kept, reasons) == ([1], [])


def test_the_id_can_be_asked_for() -> None:
    assert run(QualityFilter("endswith(_id, ':2')"), {}, {}, {})[0] == [2]


def test_an_expression_that_is_none_is_refused_when_the_stage_is_made() -> None:
    with pytest.raises(PlanError, match="write == to compare"):
        QualityFilter("wer = 0.3")
    with pytest.raises(PlanError, match="write == to compare"):
        QualityFilter("wer < 1").with_(expression="wer = 0.3")


@pytest.mark.parametrize(
    ("operator", "value", "kept"),
    [
        ("==", 2, [2]),
        ("!=", 2, [1, 3]),
        ("<", 2, [1]),
        ("<=", 2, [1, 2]),
        (">", 2, [3]),
        (">=", 2, [2, 3]),
        ("in", [1, 3, 9], [1, 3]),
        ("not in", (1, 3), [2]),
        ("<", -1.5, []),
    ],
)
def test_values_compare_by_every_operator(operator: str, value: Any, kept: list[int]) -> None:
    assert run(ValueFilter("x", operator, value), {"x": 1}, {"x": 2}, {"x": 3})[0] == kept


@pytest.mark.parametrize(
    ("value", "kept"), [("en", [1]), ("it's", [2]), ('a"b\\', [3]), ("two\nlines", [4]), ("größe", [5])]
)
def test_texts_may_hold_anything(value: str, kept: list[int]) -> None:
    texts = ("en", "it's", 'a"b\\', "two\nlines", "größe")
    stage = ValueFilter("lang", "==", value)
    assert run(stage, *({"lang": text} for text in texts))[0] == kept


@pytest.mark.parametrize("column", ["lang", "null", "class", "a b", "__x__", "true", "it's", "größe", "len", "meta.x"])
def test_a_column_may_have_any_name(column: str) -> None:
    kept, reasons, _ = run(ValueFilter(column, "in", ["en", "de"]), {column: "en"}, {column: "fr"})
    assert kept == [1]
    assert reasons[0].endswith(f"({column} = 'fr')")


def test_a_flag_can_be_asked_for() -> None:
    kept, reasons, failed = run(ValueFilter("ok", "==", True), {"ok": True}, {"ok": False}, {"ok": 1})
    assert (kept, reasons, failed) == ([1], ["ok == True (ok = False)"], [("records:3", "bad_value")])


@pytest.mark.parametrize(
    ("operator", "value", "complaint"),
    [
        ("=", 1, "operator='=' is not one of"),
        ("is", None, "operator='is' is not one of"),
        ("== 1 or x !=", 1, "is not one of"),
        ("in", "en", "takes a list"),
        ("in", [], "empty list"),
        ("==", ["en"], "takes one value"),
        ("==", None, "must be a number, a string"),
        ("<", float("nan"), "must be a number, a string"),
        ("<", float("inf"), "must be a number, a string"),
        ("in", [1, None], "must be a number, a string"),
        ("==", {"a": 1}, "must be a number, a string"),
    ],
)
def test_what_compares_with_nothing_is_refused(operator: str, value: Any, complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        ValueFilter("x", operator, value)
