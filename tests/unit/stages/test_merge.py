"""The merged file: where it may lie, and that it holds what was kept in the order of the input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from curate import Pipeline
from curate.errors import PlanError
from curate.stages import Merge, Partition, QualityFilter, ReadRecords

RECORDS: list[dict[str, Any]] = [
    {"text": f"utterance {number}", "duration": number % 5 + 0.5, "meta": {"tags": [number]}} for number in range(40)
]


def pipeline(*stages: Any) -> Pipeline:
    return Pipeline("merge", [ReadRecords(RECORDS), Partition(parts=7), QualityFilter("duration < 4"), *stages])


def kept() -> list[dict[str, Any]]:
    return [record for record in RECORDS if record["duration"] < 4]


def test_the_order_is_the_inputs_however_it_was_cut(tmp_path: Path) -> None:
    result = pipeline(Merge("curated.jsonl"), Merge("table/curated.parquet")).run(run_dir=tmp_path)
    assert [json.loads(line) for line in (tmp_path / "curated.jsonl").read_text().splitlines()] == kept()
    table = parquet.ParquetFile(tmp_path / "table" / "curated.parquet").read(use_threads=False)
    assert table.to_pylist() == kept()
    assert result.outputs == (tmp_path / "curated.jsonl", tmp_path / "table" / "curated.parquet")


@pytest.mark.parametrize("name", ["curated.jsonl", "curated.jsonl.gz", "curated.parquet"])
def test_another_run_publishes_the_same_bytes(tmp_path: Path, name: str) -> None:
    for run in ("one", "two"):
        pipeline(Merge(name)).run(run_dir=tmp_path / run)
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_an_absolute_path_lies_outside_the_run_directory(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "new" / "out.jsonl"
    pipeline(Merge(path)).run(run_dir=tmp_path / "run")
    assert len(path.read_text().splitlines()) == len(kept())


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("out.csv", r"one of \.jsonl, \.jsonl\.gz, \.parquet"),
        ("", "the suffix must be one of"),
        ("../out.jsonl", "leaves the run directory"),
        ("a/../../out.jsonl", "leaves the run directory"),
        ("data/out.jsonl", "data/ is reserved for the run"),
        ("./commits/x/out.jsonl", "commits/ is reserved"),
        ("/dev/null/out.jsonl", "cannot write to /dev/null"),
    ],
)
def test_a_path_that_cannot_be_is_a_mistake_in_the_plan(path: str, complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        pipeline(Merge(path)).plan()


@pytest.mark.parametrize("path", ["a/../out.jsonl", "data.jsonl", "x/data/out.jsonl"])
def test_unusual_paths_inside_are_fine(tmp_path: Path, path: str) -> None:
    [output] = pipeline(Merge(path)).run(run_dir=tmp_path / "run").outputs
    assert output.is_file()
    assert output.is_relative_to(tmp_path / "run")


def test_two_writers_cannot_share_a_file() -> None:
    with pytest.raises(PlanError, match=r"both write out\.jsonl"):
        pipeline(Merge("out.jsonl"), Merge("./x/../out.jsonl")).plan()


def test_nothing_kept_is_an_empty_file(tmp_path: Path) -> None:
    Pipeline(
        "none", [ReadRecords(RECORDS), QualityFilter("duration > 99"), Merge("out.jsonl"), Merge("out.parquet")]
    ).run(run_dir=tmp_path)
    assert (tmp_path / "out.jsonl").read_bytes() == b""
    assert parquet.ParquetFile(tmp_path / "out.parquet").metadata.num_rows == 0
