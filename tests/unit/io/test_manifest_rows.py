"""Rows of manifests: every line is a record, or says what is wrong with it; a file that was cut off is an error."""

from __future__ import annotations

import datetime
import decimal
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from curate.errors import InfrastructureError, RecordError
from curate.io import jsonl as jsonl_format
from curate.io import read_rows


def rows(path: Path, after: int = 0) -> list[tuple[int, Any]]:
    """Numbers with records, or with (code, message)."""
    return [
        (number, (row.code, row.message) if isinstance(row, RecordError) else row)
        for number, row in read_rows(path, after=after)
    ]


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    return tmp_path / "m.jsonl"


class TestLines:
    def test_rows_are_numbered_by_line_and_blank_lines_are_none(self, jsonl: Path) -> None:
        written(jsonl, b'{"a": 1}\n\n  \t\r\n{"a": 2}\n')
        assert rows(jsonl) == [(1, {"a": 1}), (4, {"a": 2})]

    def test_a_byte_order_mark_and_windows_line_ends_are_fine(self, jsonl: Path) -> None:
        written(jsonl, b'\xef\xbb\xbf{"a": 1}\r\n{"a": 2}\r\n')
        assert rows(jsonl) == [(1, {"a": 1}), (2, {"a": 2})]

    def test_the_last_line_needs_no_line_end(self, jsonl: Path) -> None:
        assert rows(written(jsonl, b'{"a": 1}\n{"a": 2}')) == [(1, {"a": 1}), (2, {"a": 2})]

    @pytest.mark.parametrize(
        "line",
        [b'{"a": 1}', b' {"a": 1}', b'{"a": 1} \t', b'\t{ "a" : 1 }\r', b'{"a":1}', b'{"\\u0061": 1}', b'{"a": 1 }'],
    )
    def test_blanks_around_an_object_and_inside_it_are_fine(self, jsonl: Path, line: bytes) -> None:
        assert rows(written(jsonl, b'{"b": ":[{"}\n' + line + b"\n")) == [(1, {"b": ":[{"}), (2, {"a": 1})]

    def test_file_of_a_byte_order_mark_alone_has_no_rows(self, jsonl: Path) -> None:
        assert rows(written(jsonl, b"\xef\xbb\xbf\n")) == []

    @pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1e"])
    def test_only_a_newline_ends_a_line(self, jsonl: Path, character: str) -> None:
        text = f"one{character}two"
        escaped = json.dumps(text) if character < " " else f'"{text}"'
        assert rows(written(jsonl, f'{{"t": {escaped}}}\n{{"a": 2}}\n'.encode())) == [(1, {"t": text}), (2, {"a": 2})]

    @pytest.mark.parametrize(
        ("line", "complaint"),
        [
            (b'{"a": 1', "not JSON"),
            (b"{'a': 1}", "not JSON"),
            (b'{"a": 1} {"a": 2}', "not JSON"),
            (b'[{"a": 1}]', "not a JSON object but a list"),
            (b'"text"', "not a JSON object but a str"),
            (b"null", "not a JSON object but a NoneType"),
            (b'{"a": NaN}', "NaN is not a JSON value"),
            (b'{"a": -Infinity}', "Infinity is not a JSON value"),
            (b'{"a": 1e999}', "1e999 is too large"),
            (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
            (b'{"a": "\xff"}', "not UTF-8"),
            (b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", "nested more than 100 deep"),
            (b'{"a": ' * 100_000, "nested too deeply"),
            (b'{"a": 1}'.decode().encode("utf-16"), "not UTF-8"),
            (b"\x00", "not JSON"),
        ],
        ids=lambda value: ascii(value)[:24],
    )
    def test_a_broken_line_costs_itself(self, jsonl: Path, line: bytes, complaint: str) -> None:
        before, (number, (code, message)), after = rows(written(jsonl, b'{"a": 1}\n' + line + b'\n{"a": 3}\n'))
        assert (before, after) == ((1, {"a": 1}), (3, {"a": 3}))
        assert (number, code) == (2, "bad_json")
        assert complaint in message

    def test_many_brackets_are_not_deep(self, jsonl: Path) -> None:
        record = {"a": [{"b": [1]}] * 200, "t": "[{" * 200}
        assert rows(written(jsonl, json.dumps(record).encode())) == [(1, record)]

    def test_whole_numbers_of_any_sensible_size_are_kept(self, jsonl: Path) -> None:
        assert rows(written(jsonl, b'{"a": ' + b"9" * 400 + b"}")) == [(1, {"a": int("9" * 400)})]

    def test_a_line_that_is_too_long_costs_itself_and_little_memory(
        self, jsonl: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(jsonl_format, "MAX_LINE_BYTES", 20)
        content = b'{"a": "' + b"x" * 11 + b'"}\n' + b"x" * 1000 + b'\n{"a": 3}\n' + b"y" * 21
        first, (two, (code, _)), third, (four, (last_code, _)) = rows(written(jsonl, content))
        assert first == (1, {"a": "x" * 11})  # exactly 20 bytes, and the newline
        assert (two, code, four, last_code) == (2, "line_too_long", 4, "line_too_long")
        assert third == (3, {"a": 3})

    @pytest.mark.parametrize("after", range(6))
    def test_reading_on_gives_the_rows_behind(self, jsonl: Path, after: int) -> None:
        written(jsonl, b'\xef\xbb\xbf{"a": 1}\n\nbroken\n{"a": 4}\n')
        assert rows(jsonl, after) == [row for row in rows(jsonl) if row[0] > after]

    def test_a_file_that_vanished_stops_the_run(self, jsonl: Path) -> None:
        with pytest.raises(InfrastructureError, match=r"m\.jsonl"):
            rows(jsonl)


class TestGzip:
    def test_it_reads_as_its_content(self, tmp_path: Path) -> None:
        path = written(tmp_path / "m.jsonl.gz", gzip.compress(b'{"a": 1}\n') + gzip.compress(b'{"a": 2}\n'))
        assert rows(path) == [(1, {"a": 1}), (2, {"a": 2})]

    @pytest.mark.parametrize("kept", [0, 5, 15, -1, -8, -9])
    def test_one_that_was_cut_off_stops_the_run(self, tmp_path: Path, kept: int) -> None:
        whole = gzip.compress(b"".join(b'{"a": %d}\n' % number for number in range(1000)))
        path = written(tmp_path / "m.jsonl.gz", whole[:kept] if kept else b"")
        with pytest.raises(InfrastructureError, match=r"cannot read the manifest .*m\.jsonl\.gz to its end"):
            rows(path)

    def test_gzip_suffix_of_a_damaged_file_stops_the_run(self, tmp_path: Path) -> None:
        with pytest.raises(InfrastructureError, match=r"m\.jsonl\.gz"):
            rows(written(tmp_path / "m.jsonl.gz", b"\x1f\x8b" + b"\xff" * 40))

    def test_plain_lines_under_a_gzip_suffix_are_read(self, tmp_path: Path) -> None:
        assert rows(written(tmp_path / "m.jsonl.gz", b'{"a": 1}\n')) == [(1, {"a": 1})]


def as_parquet(path: Path, columns: dict[str, Any]) -> Path:
    parquet.write_table(pyarrow.table(columns), path)
    return path


class TestParquet:
    def test_rows_are_records(self, tmp_path: Path) -> None:
        columns = {"a": [1, None], "t": ["x", "y"], "l": [[1.5], []], "m": [{"b": True}, {"b": None}]}
        path = as_parquet(tmp_path / "m.parquet", columns)
        assert rows(path) == [
            (1, {"a": 1, "t": "x", "l": [1.5], "m": {"b": True}}),
            (2, {"a": None, "t": "y", "l": [], "m": {"b": None}}),
        ]

    @pytest.mark.parametrize("after", [0, 1, 4095, 4096, 4097, 9999, 10_000])
    def test_reading_on_gives_the_rows_behind(self, tmp_path: Path, after: int) -> None:
        path = as_parquet(tmp_path / "m.parquet", {"a": list(range(1, 10_001))})
        assert rows(path, after) == [(number, {"a": number}) for number in range(after + 1, 10_001)]

    @pytest.mark.parametrize(
        ("value", "named"),
        [
            (b"RIFF", "a bytes"),
            (float("-inf"), "-inf"),
            ({"bytes": b"RIFF", "path": "x.wav"}, "a bytes"),
            ([1.0, float("inf")], "inf"),
        ],
        ids=lambda value: ascii(value)[:24],
    )
    def test_a_value_that_json_cannot_hold_costs_its_row(self, tmp_path: Path, value: Any, named: str) -> None:
        path = as_parquet(tmp_path / "m.parquet", {"a": [1, 2], "odd": [value, None]})
        assert rows(path) == [
            (1, ("bad_row", f"column 'odd' holds {named}, which no record may have")),
            (2, {"a": 2, "odd": None}),
        ]

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (datetime.datetime(2026, 1, 1, 12), "2026-01-01T12:00:00"),
            (datetime.date(2026, 1, 1), "2026-01-01"),
            (datetime.time(9, 30), "09:30:00"),
            (datetime.timedelta(seconds=1), "0:00:01"),
            (decimal.Decimal("1.50"), "1.50"),
            (float("nan"), None),
            ([datetime.date(2026, 1, 1)], ["2026-01-01"]),
        ],
        ids=lambda value: ascii(value)[:24],
    )
    def test_dates_and_decimals_become_text_and_nan_null(self, tmp_path: Path, value: Any, text: Any) -> None:
        path = as_parquet(tmp_path / "m.parquet", {"a": [1, 2], "odd": [value, None]})
        assert rows(path) == [(1, {"a": 1, "odd": text}), (2, {"a": 2, "odd": None})]

    def test_map_with_string_keys_becomes_an_object(self, tmp_path: Path) -> None:
        column = pyarrow.array([[("k", "v")], [], None], type=pyarrow.map_(pyarrow.string(), pyarrow.string()))
        path = as_parquet(tmp_path / "m.parquet", {"m": column})
        assert rows(path) == [(1, {"m": {"k": "v"}}), (2, {"m": {}}), (3, {"m": None})]

    @pytest.mark.parametrize("kept", [0, 4, 100, -1, -30])
    def test_one_that_was_cut_off_stops_the_run(self, tmp_path: Path, kept: int) -> None:
        path = as_parquet(tmp_path / "m.parquet", {"a": list(range(1000))})
        written(path, path.read_bytes()[:kept] if kept else b"")
        with pytest.raises(InfrastructureError, match=r"cannot read the manifest .*m\.parquet to its end"):
            rows(path)
