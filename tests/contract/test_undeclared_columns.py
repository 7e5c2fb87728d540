"""A column that a stage adds and does not declare is an error of the record that names both, on every executor."""

from __future__ import annotations

from typing import Any

import pytest

from curate import AudioBatch, Pipeline, ProcessingStage, RecordStage
from curate.executors.local import LocalExecutor
from curate.executors.multiprocessing import MultiprocessingExecutor
from curate.executors.ray import RayExecutor
from curate.records import Record
from curate.stages import Partition, ReadRecords

EXECUTORS: list[Any] = [
    pytest.param(LocalExecutor(), id="local"),
    pytest.param(MultiprocessingExecutor(cpus=2), id="multiprocessing"),
    pytest.param(RayExecutor(), id="ray"),
]

pytestmark = pytest.mark.parametrize("place", EXECUTORS, indirect=True)


class AddsToRecord(RecordStage):
    def writes(self) -> tuple[str, ...]:
        return ("declared",)

    def process_record(self, record: Record) -> Record:
        record["declared"] = 1
        return {**record, "extra": 1} if record["x"] in (3, 70) else record


class AddsToBatch(ProcessingStage):
    def writes(self) -> tuple[str, ...]:
        return ("declared",)

    def process(self, batch: AudioBatch) -> AudioBatch:
        for record in batch.data:
            record["declared"] = 1
            if record["x"] in (3, 70):
                record["extra"] = 1
        return batch


class AddsToParts(RecordStage):
    cardinality = "splits"

    def writes(self) -> tuple[str, ...]:
        return ("declared",)

    def process_record(self, record: Record) -> Any:
        extra = {"extra": 1} if record["x"] in (3, 70) else {}
        return [{**record, "declared": 1}, {**record, "declared": 2, **extra}]


class SaysNothing(AddsToRecord):
    def writes(self) -> Any:
        return None


def run(place: Any, stage: Any, records: list[Record]) -> Any:
    stages = [ReadRecords(records), Partition(max_records=60, by_length=False), stage.with_(workers=1)]
    return Pipeline("p", stages).run(place)


def records(count: int = 100) -> list[Record]:
    return [{"x": x, "duration": 1.0} for x in range(count)]


@pytest.mark.parametrize("stage", [AddsToRecord(), AddsToBatch(), AddsToParts()])
def test_undeclared_column_costs_its_record_and_names_column_and_stage(place: Any, stage: Any) -> None:
    result = run(place, stage, records())
    assert [(note.record["x"], note.code) for note in result.quarantined] == [
        (3, "contract_undeclared"),
        (70, "contract_undeclared"),
    ]
    assert f"stage {stage.name!r} added the column 'extra'" in result.quarantined[0].message
    assert result.summary["kept"] == (198 if isinstance(stage, AddsToParts) else 98)


@pytest.mark.parametrize("stage", [AddsToRecord(), AddsToBatch()])
def test_column_that_only_some_records_bring_along_is_no_violation(place: Any, stage: Any) -> None:
    rare: list[Record] = [
        {**record, **({"extra": 0, "y": 1} if record["x"] in (3, 70) else {})} for record in records()
    ]
    assert run(place, stage, rare).summary["kept"] == 100


def test_stage_that_declares_no_columns_is_not_held_to_any(place: Any) -> None:
    assert run(place, SaysNothing(), records()).summary["kept"] == 100
