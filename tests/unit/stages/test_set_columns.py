"""`set_columns`, and the plan's notes about columns that are overwritten."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from curate import AudioBatch, Pipeline
from curate.cli import main
from curate.errors import PlanError
from curate.records import Record
from curate.stages import Merge, NormaliseText, QualityFilter, ReadRecords, SetColumns, TextRates
from curate.testing import StageContract

RECORDS = [{"text": "one two", "duration": 2.0, "speaker": "a"}, {"text": "three", "duration": 1.0, "speaker": "b"}]


def changed(*records: Record, **settings: Any) -> AudioBatch:
    stage = SetColumns(**settings)
    stage.check()
    stage.setup()
    result = stage.process(AudioBatch([{**record} for record in records]))
    assert isinstance(result, AudioBatch)
    return result


class TestSetColumns(StageContract):
    def stage(self) -> SetColumns:
        return SetColumns(
            columns={"ms": "round(duration * 1000)"}, constants={"tags": ["x"]}, rename={"text": "sentence"}, drop=["x"]
        )

    def records(self, folder: Path) -> Sequence[Record]:
        return [
            {"text": "one", "duration": 1.5, "x": 1},
            {"text": "two", "duration": None, "x": 2},
            {"text": None, "duration": 1.0, "x": None},
        ]


def test_columns_are_set_renamed_and_dropped() -> None:
    settings = {
        "columns": {"ms": "duration * 1000", "text": "upper(text)"},
        "constants": {"license": "CC0"},
        "rename": {"speaker": "speaker_id"},
        "drop": ["duration"],
    }
    [record] = changed(RECORDS[0], **settings).data
    assert record == {"text": "ONE TWO", "ms": 2000.0, "license": "CC0", "speaker_id": "a"}


def test_expressions_see_the_record_as_it_came() -> None:
    [record] = changed({"a": 1, "b": 2}, columns={"a": "b", "b": "a"}).data
    assert record == {"a": 2, "b": 1}


def test_columns_can_change_names_with_each_other() -> None:
    [record] = changed({"a": 1, "b": 2}, rename={"a": "b", "b": "a"}).data
    assert record == {"a": 2, "b": 1}


def test_constant_belongs_to_each_record() -> None:
    one, two = changed({}, {}, constants={"tags": ["x"]}).data
    one["tags"].append("y")
    assert two["tags"] == ["x"]


def test_record_without_the_column_fails_and_stays_as_it_was() -> None:
    result = changed({"a": 1}, {"b": 2}, columns={"c": "a + 1"}, rename={"a": "d"})
    assert result.data == [{"c": 2, "d": 1}]
    assert [(note.error.code, note.record) for note in result.failed] == [("missing_column", {"b": 2})]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "nothing to do"),
        ({"columns": {"_id": "1"}}, "cannot be set"),
        ({"columns": {"a": "1"}, "constants": {"a": 2}}, "written twice"),
        ({"columns": {"a": "1"}, "rename": {"x": "a"}}, "written twice"),
        ({"rename": {"x": "a", "y": "a"}}, "written twice"),
        ({"rename": {"x": "a"}, "drop": ["x"]}, "renamed, and set or dropped"),
        ({"columns": {"a": "1"}, "drop": ["a"]}, "written and dropped"),
        ({"columns": {"a": "1 +"}}, "columns: a: value expression"),
        ({"columns": {"a": 1}}, "columns: a: a value expression must be a string"),
        ({"columns": "a = 1"}, "must be a mapping"),
        ({"drop": "text"}, "must be a list"),
        ({"columns": {"a": "txt"}}, "reads column 'txt', which no earlier stage writes"),
        ({"rename": {"txt": "a"}}, "reads column 'txt'"),
        ({"drop": ["txt"]}, "reads column 'txt'"),
    ],
)
def test_mistake_is_found_in_the_plan(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Pipeline("p", [ReadRecords(RECORDS), SetColumns(**settings)]).plan()


@pytest.mark.parametrize("settings", [{"drop": ["text"]}, {"rename": {"text": "sentence"}}])
def test_later_stage_that_reads_a_column_that_is_gone_is_a_mistake(settings: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="reads column 'text'"):
        Pipeline("p", [ReadRecords(RECORDS), SetColumns(**settings), TextRates()]).plan()


def test_same_rows_on_processes(tmp_path: Path) -> None:
    stages = [
        ReadRecords(RECORDS),
        SetColumns(columns={"key": "concat(speaker, '/', text)"}, drop=["speaker"]),
        QualityFilter("endswith(key, 'two')"),
    ]
    result = Pipeline("p", stages).run(executor="multiprocessing", run_dir=tmp_path)
    assert [record["key"] for record in result.records()] == ["a/one two"]


def test_plan_names_columns_that_are_overwritten() -> None:
    stages = [
        ReadRecords(RECORDS),
        NormaliseText(output_key="text"),
        TextRates(),
        SetColumns(columns={"chars_per_s": "round(chars_per_s)", "new": "1"}, drop=["speaker"]),
        SetColumns(constants={"speaker": "x"}).with_(name="again"),
        Merge("out.jsonl"),
    ]
    plan = Pipeline("p", stages).plan()
    assert plan.notes == (
        "normalise_text overwrites 'text', a column of the input",
        "set_columns overwrites 'chars_per_s', which text_rates has written",
    )
    assert plan.to_dict()["notes"] == list(plan.notes)


def test_command_plan_shows_the_notes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a", "duration": 1.0}\n')
    (tmp_path / "p.yaml").write_text(
        f"name: p\nstages:\n  - {{use: read_manifest, manifest: {tmp_path}/in.jsonl}}\n"
        "  - {use: set_columns, columns: {text: lower(text)}}\n"
    )
    assert main(["plan", str(tmp_path / "p.yaml")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "note: set_columns overwrites 'text', a column of the input" in shown
