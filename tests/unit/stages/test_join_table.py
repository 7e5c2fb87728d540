"""`join_table`: columns of a table, and records that a table lists."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from curate import InfrastructureError, Pipeline
from curate.errors import PlanError
from curate.records import Record
from curate.stages import JoinTable, Merge, QualityFilter, ReadRecords

pytest.importorskip("duckdb", reason="needs duckdb: pip install 'curate-speech[corpus]'")

RECORDS = [
    {"n": 1, "speaker": "a", "book": 1, "age": 10},
    {"n": 2, "speaker": "b", "book": 2, "age": 20},
    {"n": 3, "speaker": None, "book": 1},
    {"n": 4, "speaker": "a", "book": 2},
    {"n": 5, "speaker": "é\"'", "book": 7.0},
]


def table(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "table.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def joined(stage: JoinTable, records: Sequence[Record] = RECORDS) -> Any:
    return Pipeline("p", [ReadRecords(list(records)), stage]).run()


def rows_of(stage: JoinTable) -> list[Record]:
    return [{name: value for name, value in row.items() if name != "_id"} for row in joined(stage).records()]


def test_left_join_adds_columns_and_keeps_every_record(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        {"speaker": "a", "gender": "f", "age": 33, "tags": ["x", {"y": 1}]},
        {"speaker": "é\"'", "gender": "m"},
        {"speaker": "nobody", "gender": "m"},
        {"speaker": None, "gender": "x"},
        {"speaker": None, "gender": "y"},
    )
    assert rows_of(JoinTable(path, ["speaker"])) == [
        {"n": 1, "speaker": "a", "book": 1, "age": 33, "gender": "f", "tags": ["x", {"y": 1}]},
        {"n": 2, "speaker": "b", "book": 2, "age": 20, "gender": None, "tags": None},
        {"n": 3, "speaker": None, "book": 1, "gender": None, "age": None, "tags": None},
        {"n": 4, "speaker": "a", "book": 2, "gender": "f", "age": 33, "tags": ["x", {"y": 1}]},
        {"n": 5, "speaker": "é\"'", "book": 7.0, "gender": "m", "age": None, "tags": None},
    ]


def test_chosen_columns_and_a_key_of_another_name(tmp_path: Path) -> None:
    path = table(tmp_path, {"id": "a", "gender": "f", "age": 33})
    rows = rows_of(JoinTable(path, {"speaker": "id"}, columns=["gender"]))
    assert [(row["gender"], row.get("age")) for row in rows] == [
        ("f", 10),
        (None, 20),
        (None, None),
        ("f", None),
        (None, None),
    ]


def test_several_keys_must_all_be_equal(tmp_path: Path) -> None:
    path = table(tmp_path, {"speaker": "a", "book": 1, "take": 1}, {"speaker": "a", "book": 2, "take": 2})
    assert [row["take"] for row in rows_of(JoinTable(path, ["speaker", "book"]))] == [1, None, None, 2, None]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.parquet", "t.json"])
def test_table_of_any_format_is_read_and_numbers_are_compared_as_strings(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("parquet"):
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"book": [1, 7], "title": ["one", "seven"]}), path)
    elif name.endswith("json"):
        path.write_text(json.dumps([{"book": 1, "title": "one"}, {"book": 7, "title": "seven"}]))
    else:
        separator = "\t" if "tsv" in name else ","
        content = f"book{separator}title\n1{separator}one\n7{separator}seven\n".encode()
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert [row["title"] for row in rows_of(JoinTable(path, ["book"]))] == ["one", None, "one", None, "seven"]


def test_anti_join_leaves_out_what_the_table_lists_with_a_reason(tmp_path: Path) -> None:
    path = table(tmp_path, {"speaker": "a"}, {"speaker": "a"}, {"speaker": None})
    result = joined(JoinTable(path, ["speaker"], how="anti", reason="takedown '26"))
    assert [record["n"] for record in result.records()] == [2, 3, 5]
    assert [(note.record["n"], note.reason) for note in result.filtered] == [(1, "takedown '26"), (4, "takedown '26")]


@pytest.mark.parametrize("name", ["blocked.csv", "blocked.txt", "blocked.csv.gz"])
def test_list_with_a_name_on_top_is_a_table_of_one_column(tmp_path: Path, name: str) -> None:
    content = b'n\r\n1\r\n"4"\r\n'
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    result = joined(JoinTable(tmp_path / name, ["n"], how="anti"))
    assert [record["n"] for record in result.records()] == [2, 3, 5]


def test_key_that_is_there_twice_is_named_in_the_plan(tmp_path: Path) -> None:
    path = table(tmp_path, {"speaker": "a", "x": 1}, {"speaker": "b", "x": 1}, {"speaker": "b", "x": 2})
    with pytest.raises(PlanError, match=r'has 2 rows for speaker = "b" \(rows 2 and 3\)'):
        Pipeline("p", [ReadRecords(RECORDS), JoinTable(path, ["speaker"])]).plan()


def test_key_that_is_twice_in_a_large_table_is_named_when_the_join_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(tmp_path, {"speaker": "b", "x": 1}, {"speaker": "b", "x": 2})
    monkeypatch.setattr("curate.stages.corpus.join_table._CHECKED_EARLY_BYTES", 1)
    with pytest.raises(InfrastructureError, match='2 rows for speaker = "b"'):
        joined(JoinTable(path, ["speaker"]))


def test_last_row_of_a_repeated_key_counts_where_that_is_asked_for(tmp_path: Path) -> None:
    rows = [{"speaker": "a", "x": 1}, {"speaker": "b", "x": 1}, {"speaker": "a", "x": None}, {"speaker": "b", "x": 9}]
    found = rows_of(JoinTable(table(tmp_path, *rows), ["speaker"], repeated="last"))
    assert [row["x"] for row in found] == [None, 9, None, None, None]
    with pytest.raises(PlanError, match="choose from error, last"):
        Pipeline("p", [ReadRecords(RECORDS), JoinTable(table(tmp_path, *rows), ["speaker"], repeated="first")]).plan()


def test_matches_are_counted(tmp_path: Path, messages: list[str]) -> None:
    joined(JoinTable(table(tmp_path, {"speaker": "a", "x": 1}), ["speaker"]))
    assert any("2 of 5 records have a row in" in message for message in messages)


def test_table_that_matches_nothing_stops_a_left_join_only(tmp_path: Path, messages: list[str]) -> None:
    path = table(tmp_path, {"speaker": "A", "x": 1})
    with pytest.raises(InfrastructureError, match="has a row for none of 5 records"):
        joined(JoinTable(path, ["speaker"]))
    assert len(list(joined(JoinTable(path, ["speaker"], how="anti")).records())) == 5
    assert any("has a row for none of 5 records" in message for message in messages)


def test_row_that_cannot_be_read_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    path.write_text('{"speaker": "a", "x": 1}\n{"speaker": \n')
    with pytest.raises(PlanError, match="row 2"):
        Pipeline("p", [ReadRecords(RECORDS), JoinTable(path, ["speaker"])]).plan()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keys": ["speker"]}, "has no column 'speker': did you mean 'speaker'"),
        ({"keys": {"speaker": "spk"}}, "has no column 'spk'"),
        ({"keys": ["speaker"], "columns": ["gendr"]}, "has no column 'gendr'"),
        ({"keys": {"who": "speaker"}}, "reads column 'who'"),
        ({"keys": []}, "must be a list of columns"),
        ({"keys": "speaker"}, "must be a list of columns"),
        ({"keys": ["speaker"], "how": "inner"}, "choose from left, anti"),
        ({"keys": ["speaker"], "how": "anti", "columns": ["gender"]}, "adds none"),
        ({"keys": ["speaker"], "table": "gone.csv"}, "does not exist"),
    ],
)
def test_mistake_is_found_in_the_plan(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"table": table(tmp_path, {"speaker": "a", "gender": "f"}), **settings}
    with pytest.raises(PlanError, match=message):
        Pipeline("p", [ReadRecords(RECORDS), JoinTable(**given)]).plan()


def test_plan_knows_the_columns_and_names_those_overwritten(tmp_path: Path) -> None:
    path = table(tmp_path, {"speaker": "a", "gender": "f"}, {"speaker": "b", "age": 3})
    stages = [ReadRecords(RECORDS), JoinTable(path, ["speaker"]), QualityFilter("gender is None or gender == 'f'")]
    plan = Pipeline("p", [*stages, Merge("out.jsonl")]).plan()
    assert plan.notes == ("join_table overwrites 'age', a column of the input",)
    with pytest.raises(PlanError, match="reads column 'gnder'"):
        Pipeline("p", [*stages, QualityFilter("gnder == 'f'")]).plan()


def test_changed_table_changes_the_fingerprint(tmp_path: Path) -> None:
    stage = JoinTable(table(tmp_path, {"speaker": "a", "x": 1}), ["speaker"])
    before = Pipeline("p", [ReadRecords(RECORDS), stage]).plan().fingerprint
    table(tmp_path, {"speaker": "a", "x": 22})
    assert Pipeline("p", [ReadRecords(RECORDS), stage]).plan().fingerprint != before


def test_joined_rows_are_published(tmp_path: Path) -> None:
    path = table(tmp_path, {"speaker": "a", "gender": "f"})
    stages = [ReadRecords(RECORDS), JoinTable(path, ["speaker"]), Merge("out.jsonl")]
    Pipeline("p", stages).run(run_dir=tmp_path / "run")
    lines = (tmp_path / "run/out.jsonl").read_text().splitlines()
    assert [json.loads(line)["gender"] for line in lines] == ["f", None, None, "f", None]
