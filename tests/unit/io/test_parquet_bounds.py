"""Parquet is decoded and converted in parts of a bounded size, whatever is shared or repeated in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from curate.io import parquet_bounds, read_rows
from curate.io.parquet import rows_of
from curate.io.parquet_bounds import columns_perhaps_shared, columns_read_shared, rows_in_bounds, slices_in_bounds

arrow: Any = pyarrow


def shared(values: list[str], indices: list[int | None]) -> Any:
    return arrow.DictionaryArray.from_arrays(arrow.array(indices, arrow.int32()), values)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.integers(1, 120))
def test_slices_cover_every_row_once_and_are_bounded(sizes: list[int], most: int) -> None:
    strings = sorted({"x" * size for size in sizes})
    column = shared(strings, [strings.index("x" * size) for size in sizes])
    batch = arrow.record_batch({"text": column, "n": list(range(len(sizes)))})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_bounds, "_SLICE_BYTES", most)
        slices = list(slices_in_bounds(batch))
        rows = list(rows_of(batch))
    assert [row for start, count in slices for row in range(start, start + count)] == list(range(len(sizes)))
    assert rows == [{"text": "x" * size, "n": n} for n, size in enumerate(sizes)]
    for start, count in slices:
        if len(slices) > 1 and batch.nbytes < most:
            assert count == 1 or sum(sizes[start : start + count]) <= most


def test_shared_strings_within_lists_maps_and_objects_count_as_often_as_they_occur(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    big = shared(["z" * 1000, "k"], [0] * 8)
    lists = arrow.ListArray.from_arrays(arrow.array(range(0, 9, 2), arrow.int32()), big)
    objects = arrow.StructArray.from_arrays([big.slice(0, 4)], ["word"])
    keys = shared(["a", "b"], [0, 1] * 4)
    maps = arrow.MapArray.from_arrays(arrow.array(range(0, 9, 2), arrow.int32()), keys, big)
    monkeypatch.setattr(parquet_bounds, "_SLICE_BYTES", 3000)
    for column, slices in ((lists, 4), (objects, 2), (maps, 4)):
        found = list(slices_in_bounds(arrow.record_batch({"v": column})))
        assert len(found) == slices, column.type


def test_file_of_large_repeated_strings_is_read_shared(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    rows = 300
    columns: dict[str, Any] = {
        "n": list(range(rows)),
        "small": ["a", "b", None] * (rows // 3),
        "large": ["z" * 400_000] * rows,
    }
    columns["words"] = [[{"word": "y" * 400_000}]] * rows
    parquet.write_table(arrow.table(columns), path, row_group_size=200)
    perhaps = columns_perhaps_shared(parquet.read_metadata(path))
    assert perhaps == ["large", "words.list.element.word"]
    file = parquet.ParquetFile(path, read_dictionary=perhaps)
    assert columns_read_shared(file, 0, perhaps) == columns_read_shared(file, 1, perhaps) == tuple(perhaps)
    read: list[Any] = [row for _, row in read_rows(path)]
    assert [row["n"] for row in read] == list(range(rows))
    assert {len(row["large"]) for row in read} == {400_000}
    assert [row["small"] for row in read] == columns["small"]
    assert [number for number, _ in read_rows(path, after=250)] == list(range(251, 301))
    assert [number for number, _ in read_rows(path, after=150)] == list(range(151, 301))


def test_columns_of_short_strings_are_read_plainly(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    rows = 8_000
    columns: dict[str, Any] = {
        "unique": [f"{n} of one two three" for n in range(rows)],
        "nulls": [None] * 100 + [f"{n}" for n in range(rows - 100)],
        "late": ["short"] * (rows // 2) + ["z" * 20_000] * (rows // 2),
        "words": [[{"word": f"{n}", "start": 0.5}] for n in range(rows)],
    }
    parquet.write_table(arrow.table(columns), path, row_group_size=rows // 2)
    perhaps = columns_perhaps_shared(parquet.read_metadata(path))
    file = parquet.ParquetFile(path, read_dictionary=perhaps)
    assert set(perhaps) == {"unique", "nulls", "late", "words.list.element.word"}
    assert "unique" not in columns_read_shared(file, 0, perhaps)
    assert "late" not in columns_read_shared(file, 0, perhaps) and "late" in columns_read_shared(file, 1, perhaps)
    read: list[Any] = [row for _, row in read_rows(path)]
    assert {name: [row[name] for row in read] for name in columns} == columns


def test_rows_with_long_lists_are_decoded_a_few_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    parquet.write_table(arrow.table({"v": [[7] * 1_000_000] * 8}), path)
    assert 1 <= rows_in_bounds(parquet.read_metadata(path).row_group(0)) <= 4
    parquet.write_table(arrow.table({"v": [7] * 8}), path)
    assert rows_in_bounds(parquet.read_metadata(path).row_group(0)) == 4096


def test_two_columns_of_a_name_among_many_are_found_at_once(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(2000)] + ["c7"]
    parquet.write_table(arrow.Table.from_arrays([arrow.array([1])] * len(names), names), tmp_path / "m.parquet")
    with pytest.raises(Exception, match="two columns 'c7'"):
        list(read_rows(tmp_path / "m.parquet"))
