"""A value that cannot be stored is blamed on the stage that writes its column, with the remedy, on every executor."""

from __future__ import annotations

import datetime
import decimal
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline, RecordStage, Resources
from curate.executors.local import LocalExecutor
from curate.executors.multiprocessing import MultiprocessingExecutor
from curate.executors.ray import RayExecutor
from curate.records import Record
from curate.stages import Merge, Partition, ReadRecords

EXECUTORS: list[Any] = [
    pytest.param(LocalExecutor(), id="local"),
    pytest.param(MultiprocessingExecutor(cpus=2), id="multiprocessing"),
    pytest.param(RayExecutor(), id="ray"),
]

pytestmark = pytest.mark.parametrize("place", EXECUTORS, indirect=True)

ODD: dict[str, Any] = {
    "nan": float("nan"),
    "set": {1, 2},
    "date": datetime.date(2024, 2, 29),
    "decimal": decimal.Decimal("0.10"),
}


@dataclass
class Puts(RecordStage):
    """Puts the value that a record asks for into a column."""

    column: str
    says: bool = True

    def writes(self) -> Any:
        return (self.column,) if self.says else None

    def process_record(self, record: Record) -> Record:
        if record["of"] == self.column:
            return {**record, self.column: threading.Lock() if record["value"] == "lock" else ODD[record["value"]]}
        return record


class Passes(RecordStage):
    def writes(self) -> tuple[str, ...]:
        return ()

    def process_record(self, record: Record) -> Record:
        return record


def run(place: Any, folder: Path, of: str, value: str, *, hops: int = 1) -> Any:
    records: list[Record] = [{"of": of if x == 3 else "", "value": value, "x": x} for x in range(8)]
    second = Resources(cpus=0.5 if hops > 1 else 1.0)
    stages = [
        Puts("a").with_(name="puts_a", workers=1),
        Puts("b").with_(name="puts_b", workers=1),
        Puts("c", says=False).with_(name="puts_c", workers=1, resources=second),
        Passes().with_(workers=1, resources=second),
    ]
    return Pipeline("p", [ReadRecords(records), Partition(max_records=4), *stages, Merge("out.jsonl")]).run(
        place, run_dir=folder
    )


@pytest.mark.parametrize("hops", [1, 2])
@pytest.mark.parametrize(("of", "stage"), [("a", "puts_a"), ("b", "puts_b"), ("c", "puts_c")])
def test_value_that_is_not_json_is_blamed_on_the_stage_of_its_column(
    place: Any, of: str, stage: str, hops: int, tmp_path: Path
) -> None:
    result = run(place, tmp_path / "run", of, "set", hops=hops)
    assert [(note.stage, note.code, note.record["x"]) for note in result.quarantined] == [(stage, "bad_value", 3)]
    (note,) = result.quarantined
    assert f"column {of!r}: a value of type set is not JSON; store a list" in note.message


def test_value_that_cannot_be_sent_is_blamed_on_the_stage_of_its_column(place: Any, tmp_path: Path) -> None:
    result = run(place, tmp_path / "run", "a", "lock", hops=2)
    assert [(note.stage, note.code) for note in result.quarantined] == [("puts_a", "bad_value")]
    assert "'a'" in result.quarantined[0].message


@pytest.mark.parametrize(("value", "stored"), [("date", "2024-02-29"), ("decimal", "0.10")])
def test_value_with_one_json_form_is_published_in_it(place: Any, value: str, stored: str, tmp_path: Path) -> None:
    result = run(place, tmp_path / "run", "a", value)
    assert result.quarantined == []
    rows = [json.loads(line) for line in (tmp_path / "run" / "out.jsonl").read_text().splitlines()]
    assert rows[3]["a"] == stored
