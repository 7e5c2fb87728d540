"""A gather that decides from keys: what it changes, rejects and reorders, in the engine and by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from curate import InfrastructureError, Pipeline
from curate.corpus import Decisions, KeyGather, KeyTable
from curate.errors import PlanError
from curate.records import Record
from curate.stages import Merge, ReadRecords

pytest.importorskip("duckdb", reason="needs duckdb: pip install 'curate-speech[corpus]'")

RECORDS = [{"x": x, "text": f"text {x}", "duration": 1.0} for x in (3, 1, 2, 5, 4)]


@dataclass
class Decides(KeyGather):
    query: str = "SELECT position FROM keys"
    columns: tuple[str, ...] = ()
    rejects: bool = False
    ordered: bool = False
    dropped: tuple[str, ...] = ()

    def key_types(self) -> Mapping[str, str]:
        return {"x": "BIGINT"}

    def writes(self) -> tuple[str, ...]:
        return self.columns

    def dropped_keys(self) -> tuple[str, ...]:
        return self.dropped

    def decide(self, keys: KeyTable) -> Decisions:
        return Decisions(self.query, self.columns, rejects=self.rejects, ordered=self.ordered)


def run(tmp_path: Path, stage: KeyGather, executor: Any = "local") -> Any:
    pipeline = Pipeline("p", [ReadRecords(RECORDS), stage, Merge("out.jsonl")])
    return pipeline.run(executor=executor, run_dir=tmp_path / "run")


def kept(result: Any) -> list[Record]:
    return list(result.records())


def test_records_that_the_query_does_not_name_pass_unchanged(tmp_path: Path) -> None:
    result = run(tmp_path, Decides("SELECT position, x * 2 AS twice FROM keys WHERE x > 3", ("twice",)))
    assert [record.get("twice") for record in kept(result)] == [None, None, None, 10, 8]


def test_a_rejected_record_has_its_reason_in_the_books(tmp_path: Path) -> None:
    query = "SELECT position, CASE WHEN x % 2 = 0 THEN 'even: ' || x END AS reject FROM keys"
    result = run(tmp_path, Decides(query, rejects=True))
    assert [record["x"] for record in kept(result)] == [3, 1, 5]
    assert [(note.record["x"], note.reason) for note in result.filtered] == [(2, "even: 2"), (4, "even: 4")]
    assert (result.summary["kept"], result.summary["filtered"]) == (3, 2)


def test_ranks_give_the_order_and_equal_ones_keep_the_inputs(tmp_path: Path) -> None:
    query = "SELECT position, -(x // 2) AS rank, CASE WHEN x = 1 THEN 'one' END AS reject FROM keys"
    result = run(tmp_path, Decides(query, ordered=True, rejects=True))
    assert [record["x"] for record in kept(result)] == [5, 4, 3, 2]
    assert [note.reason for note in result.filtered] == ["one"]


def test_keys_that_are_dropped_do_not_travel_on(tmp_path: Path) -> None:
    query = "SELECT position, CASE WHEN x = 1 THEN 'one' END AS reject FROM keys"
    result = run(tmp_path, Decides(query, rejects=True, dropped=("x",)))
    assert all("x" not in record for record in kept(result))
    assert all("x" not in note.record for note in result.filtered)


def test_a_later_stage_that_reads_a_dropped_key_is_a_plan_error(tmp_path: Path) -> None:
    stages = [ReadRecords(RECORDS), Decides(dropped=("x",)), Decides(), Merge("out.jsonl")]
    with pytest.raises(PlanError, match="reads column 'x', which no earlier stage writes"):
        Pipeline("p", stages).plan()


def test_temporary_files_are_removed(tmp_path: Path) -> None:
    run(tmp_path, Decides("SELECT position, x AS rank FROM keys", ordered=True))
    assert not (tmp_path / "run" / "scratch").exists()


def test_temporary_files_are_removed_when_the_decision_fails(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError):
        run(tmp_path, Decides("SELECT no_such_column FROM keys"))
    assert not (tmp_path / "run" / "scratch").exists()


def test_a_key_of_another_type_is_named_with_its_record(tmp_path: Path) -> None:
    pipeline = Pipeline("p", [ReadRecords([*RECORDS, {"x": "six"}]), Decides(), Merge("out.jsonl")])
    with pytest.raises(InfrastructureError, match=r"record records:6: key 'x' = 'six'"):
        pipeline.run(run_dir=tmp_path / "run")


def test_the_same_comes_out_without_a_run_directory() -> None:
    stage = Decides("SELECT position, x AS rank FROM keys", ordered=True)
    result = Pipeline("p", [ReadRecords(RECORDS), stage]).run()
    assert [record["x"] for record in result.records()] == [1, 2, 3, 4, 5]


def test_records_in_memory_are_gathered_without_an_engine() -> None:
    records = [{"_id": f"r:{x}", "x": x} for x in (2, 1)]
    stage = Decides("SELECT position, x AS rank FROM keys", ordered=True)
    assert [record["x"] for record in stage.gather(iter(records)) if isinstance(record, dict)] == [1, 2]
