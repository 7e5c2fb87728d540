"""The error budget: a run stops when too many records fail, keeps what is done, and says what fails most."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline, RecordError, processing_stage
from curate.engine.protocol.options import ErrorBudget
from curate.errors import BudgetExceededError
from curate.records import Record
from curate.stages import Merge, Partition, QualityFilter, ReadManifest, ReadRecords


@pytest.mark.parametrize(
    ("budget", "failures", "records", "limit"),
    [
        (ErrorBudget(), 100, 200, ""),
        (ErrorBudget(), 101, 199, ""),  # a ratio means nothing yet
        (ErrorBudget(), 101, 200, "the larger of 100 records and 1%"),
        (ErrorBudget(), 1000, 100_000, ""),
        (ErrorBudget(), 1001, 100_000, "the larger of 100 records and 1%"),
        (ErrorBudget(max_failures=0), 0, 10, ""),
        (ErrorBudget(max_failures=0), 1, 1, "max_failures = 0"),
        (ErrorBudget(max_failures=5000), 4000, 5000, ""),
        (ErrorBudget(max_failure_ratio=0.5), 100, 200, ""),
        (ErrorBudget(max_failure_ratio=0.5), 199, 199, ""),
        (ErrorBudget(max_failure_ratio=0.5), 101, 200, "max_failure_ratio = 0.5"),
        (ErrorBudget(max_failures=10, max_failure_ratio=0.5), 11, 1000, "max_failures = 10"),
        (ErrorBudget(max_failures=500, max_failure_ratio=0.1), 101, 1000, "max_failure_ratio = 0.1"),
    ],
)
def test_what_is_too_much(budget: ErrorBudget, failures: int, records: int, limit: str) -> None:
    assert budget.exceeded(failures, records) == limit


@pytest.mark.parametrize("wrong", [{"max_failures": -1}, {"max_failure_ratio": 1.5}, {"max_failure_ratio": -0.1}])
def test_a_budget_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ErrorBudget(**wrong)


def pipeline(log: list[int], count: int = 1000, fails: Any = lambda x: x % 2) -> Pipeline:
    @processing_stage(name="fails", writes=[])
    def failing(record: dict) -> dict:
        log.append(record["x"])
        if fails(record["x"]):
            raise RecordError("truncated" if record["x"] % 4 == 1 else "decode_error", f"bad {record['x']}")
        return record

    cut = Partition(max_records=20, by_length=False)
    return Pipeline("p", [ReadRecords([{"x": x} for x in range(count)]), cut, failing, Merge("out.jsonl")])


def test_a_run_stops_and_keeps_what_is_done_and_says_what_failed_most(tmp_path: Path) -> None:
    log: list[int] = []
    with pytest.raises(BudgetExceededError) as caught:
        pipeline(log).run(run_dir=tmp_path)
    text = str(caught.value)
    assert "110 records have failed, more than the larger of 100 records and 1% allows; 220 records" in text
    assert "55  decode_error at fails, such as records:220: bad 219" in text
    assert "55  truncated at fails, such as records:218: bad 217" in text
    assert "--max-failures" in text
    assert len(log) == 220
    assert not (tmp_path / "out.jsonl").exists()

    again: list[int] = []
    with pytest.raises(BudgetExceededError, match="110 records have failed"):
        pipeline(again).run(run_dir=tmp_path)
    assert again == []

    result = pipeline(again).run(run_dir=tmp_path, max_failures=500)
    assert again == list(range(220, 1000))
    assert result.summary["kept"] == result.summary["quarantined"] == 500


def test_what_is_in_flight_is_finished_first(tmp_path: Path) -> None:
    from tests.shuffled_executor import ShuffledExecutor

    log: list[int] = []
    with pytest.raises(BudgetExceededError):
        pipeline(log).run(ShuffledExecutor(), run_dir=tmp_path, max_failures=3)
    commits = [json.loads(path.read_bytes()) for path in (tmp_path / "commits").glob("p0-*.json")]
    done = sum(commit["account"]["books"]["records_in"] for commit in commits)
    assert done % 20 == 0
    assert 40 <= done <= 200  # the batch that was too much, and those that were with three workers


def test_a_run_in_memory_has_a_budget_too() -> None:
    log: list[int] = []
    stages = pipeline(log).stages[:-1]
    with pytest.raises(BudgetExceededError, match=r"decode_error at fails, such as records:\d+: bad"):
        Pipeline("p", stages).run(max_failures=0)
    assert len(log) == 20


def test_broken_lines_of_a_manifest_count_and_are_not_read_to_the_end(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"x": 1}\n' + "broken\n" * 5000)
    with pytest.raises(BudgetExceededError, match=r"such as .*m.jsonl:\d+: the line is not JSON") as caught:
        Pipeline("p", [ReadManifest(str(manifest)), Merge("out.jsonl")]).run(run_dir=tmp_path / "run")
    assert str(caught.value).startswith("200 records have failed")


def test_failures_of_all_phases_count_together(tmp_path: Path) -> None:
    @processing_stage(name="second", writes=[])
    def second(record: Record) -> Record:
        raise RecordError("oom", "no")

    stages = pipeline([], 100, lambda x: x < 5).stages
    plan = [*stages[:2], stages[2].with_(checkpoint=True), second, Merge("out.jsonl")]
    with pytest.raises(BudgetExceededError, match=r"100 records have failed.*; 95 records of phase 1"):
        Pipeline("p", plan).run(run_dir=tmp_path, max_failures=5)


def test_the_share_is_one_of_all_records_in_later_phases_too(tmp_path: Path) -> None:
    @processing_stage(name="second", writes=[])
    def second(record: Record) -> Record:
        if record["x"] == 989:
            raise RecordError("oom", "no")
        return record

    stages = pipeline([], 1000, lambda x: x >= 990).stages
    plan = [*stages[:2], stages[2].with_(checkpoint=True), Partition(max_records=20), second, Merge("out.jsonl")]
    result = Pipeline("p", plan).run(run_dir=tmp_path, max_failure_ratio=0.011)
    assert result.summary["quarantined"] == 11
    with pytest.raises(BudgetExceededError, match=r"11 records have failed, more than max_failure_ratio = 0\.0105"):
        Pipeline("p", plan).run(run_dir=tmp_path / "less", max_failure_ratio=0.0105)


def test_what_a_filter_leaves_out_is_no_failure(tmp_path: Path) -> None:
    stages = [ReadRecords([{"x": x} for x in range(500)]), QualityFilter("x < 0"), Merge("out.jsonl")]
    assert Pipeline("p", stages).run(run_dir=tmp_path, max_failures=0).summary["filtered"] == 500


@pytest.mark.parametrize("checkpoint", [False, True])
def test_the_parts_of_split_records_have_been_worked_on_as_well(tmp_path: Path, checkpoint: bool) -> None:
    def run(name: str, fails: Callable[[int], bool]) -> Any:
        @processing_stage(name="cut", cardinality="splits")
        def cut(record: Record) -> list[Record]:
            return [{**record, "n": 100 * record["x"] + number} for number in range(100)]

        @processing_stage(name="judge", writes=[])
        def judge(record: Record) -> Record:
            if fails(record["n"]):
                raise RecordError("oom", "no")
            return record

        stages = [ReadRecords([{"x": x} for x in range(250)]), Partition(max_records=10), cut, judge]
        stages[2] = stages[2].with_(checkpoint=checkpoint)
        return Pipeline("p", [*stages, Merge("out.jsonl")]).run(run_dir=tmp_path / name).summary

    assert run("few", lambda n: n % 200 == 0)["quarantined"] == 125
    with pytest.raises(BudgetExceededError):
        run("all", lambda n: True)
