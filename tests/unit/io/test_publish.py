"""Published files: the order of the input, the same bytes for the same records, and no value lost."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from curate.errors import InfrastructureError
from curate.io import FORMATS, publish, read_rows
from curate.io import parquet as parquet_format
from curate.io.rows import encode_row, without_id
from curate.records import Record


class Records:
    """Records as the store hands them to a writer."""

    def __init__(self, records: list[Record]) -> None:
        self._rows = [encode_row({"_id": f"m:{number}", **record}) for number, record in enumerate(records, start=1)]

    def __iter__(self) -> Iterator[Record]:
        return map(json.loads, self._rows)

    def lines(self) -> Iterator[bytes]:
        return map(without_id, self._rows)


def read_back(path: Path, records: list[Record]) -> list[Record]:
    publish(Records(records), path)
    if path.name.endswith(".parquet"):
        return parquet.ParquetFile(path).read(use_threads=False).to_pylist()
    if path.suffix in (".csv", ".tsv"):
        return [row for _, row in read_rows(path) if isinstance(row, dict)]
    content = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    return [json.loads(line) for line in content.splitlines()]


RECORDS = [{"text": f"größe {number}", "wer": number / 7, "n": number, "meta": {"a": [number]}} for number in range(5)]


WRITTEN = [format.suffixes[0] for format in FORMATS.values() if format.is_writable]


@pytest.mark.parametrize("ending", WRITTEN)
class TestEveryFormat:
    def test_it_holds_the_records_in_order_without_their_ids(self, tmp_path: Path, ending: str) -> None:
        written = RECORDS
        if ending in (".csv", ".tsv"):  # whose cells are strings
            written = [{name: v if isinstance(v, str) else json.dumps(v) for name, v in row.items()} for row in RECORDS]
        assert read_back(tmp_path / f"out{ending}", RECORDS) == written

    def test_equal_records_give_equal_bytes_under_any_name(self, tmp_path: Path, ending: str) -> None:
        for name in ("one", "two"):
            publish(Records(RECORDS), tmp_path / f"{name}{ending}")
        assert (tmp_path / f"one{ending}").read_bytes() == (tmp_path / f"two{ending}").read_bytes()

    def test_no_records_are_an_empty_file_that_can_be_read(self, tmp_path: Path, ending: str) -> None:
        assert read_back(tmp_path / f"out{ending}", []) == []

    def test_folders_are_made_and_nothing_but_the_file_is_left(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / "a" / "b" / f"out{ending}"
        publish(Records(RECORDS), path)
        assert list(path.parent.iterdir()) == [path]

    def test_what_cannot_be_written_stops_the_run_and_leaves_nothing(self, tmp_path: Path, ending: str) -> None:
        (tmp_path / f"out{ending}").mkdir()
        with pytest.raises(InfrastructureError, match="cannot write"):
            publish(Records(RECORDS), tmp_path / f"out{ending}")
        assert [path.name for path in tmp_path.iterdir()] == [f"out{ending}"]
        (tmp_path / "file").touch()
        with pytest.raises(InfrastructureError, match="cannot create"):
            publish(Records(RECORDS), tmp_path / "file" / f"out{ending}")


def test_lines_keep_every_records_own_columns(tmp_path: Path) -> None:
    records: list[Record] = [{"b": 1, "a": 2}, {"c": None}, {}]
    publish(Records(records), tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == '{"b": 1, "a": 2}\n{"c": null}\n{}\n'


@pytest.fixture
def parquet_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(parquet_format, "_ROWS_A_GROUP", 2)
    return tmp_path / "out.parquet"


class TestParquet:
    def test_columns_stand_in_the_order_of_their_first_appearance(self, parquet_file: Path) -> None:
        records: list[Record] = [{"b": 1}, {"a": 2, "b": 3}, {"c": 4}, {"a": 5}]
        assert read_back(parquet_file, records) == [
            {"b": 1, "a": None, "c": None},
            {"b": 3, "a": 2, "c": None},
            {"b": None, "a": None, "c": 4},
            {"b": None, "a": 5, "c": None},
        ]
        assert parquet.ParquetFile(parquet_file).schema_arrow.names == ["b", "a", "c"]

    def test_row_groups_depend_on_the_records_alone(self, parquet_file: Path) -> None:
        read_back(parquet_file, [{"a": number} for number in range(5)])
        file = parquet.ParquetFile(parquet_file)
        assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [2, 2, 1]

    @pytest.mark.parametrize(
        ("values", "kind"),
        [
            ([1, 2, None, 3], "int64"),
            ([1, 2, 2.5, None], "double"),
            ([None, None, None, "x"], "string"),
            ([[], [], [1], None], "list<element: int64>"),
            ([{"a": 1}, None, {"b": "x"}, None], "struct<a: int64, b: string>"),
            ([True, None, False, True], "bool"),
        ],
        ids=str,
    )
    def test_a_type_that_holds_all_values_is_found_over_all_groups(
        self, parquet_file: Path, values: list[Any], kind: str
    ) -> None:
        records = [{"x": value} for value in values]
        found = [row["x"] for row in read_back(parquet_file, records)]
        assert str(parquet.ParquetFile(parquet_file).schema_arrow.field("x").type) == kind
        for value, again in zip(values, found, strict=True):
            assert again == value or {name: part for name, part in again.items() if part is not None} == value

    @pytest.mark.parametrize(
        "values",
        [
            [1, "one"],
            [1, 2, "one", 2.5],
            ["one", "two", 3],
            [True, 1],
            [True, False, 1],
            [2**60 + 1, 3, 0.5, 1],
            [2**63, 1],
            [10**400],
            [{}],
            [[{"a": {}}]],
            [{"a": 1}, {"a": "x"}],
            [[1], {"a": 1}],
            [[1], 2],
            ["a\udcffb"],
            ["a\udcffb", 1],
        ],
        ids=ascii,
    )
    def test_values_of_unlike_types_become_json_text(self, parquet_file: Path, values: list[Any]) -> None:
        records = [{"x": value, "n": number} for number, value in enumerate([*values, None])]
        found = read_back(parquet_file, records)
        assert [row["n"] for row in found] == list(range(len(records)))
        assert [None if row["x"] is None else json.loads(row["x"]) for row in found] == [*values, None]
