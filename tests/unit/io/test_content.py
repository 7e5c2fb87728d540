"""What a file is, by its content: which form, compression and encoding its rows have, or what else it holds."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from curate.errors import InfrastructureError, PlanError, RecordError
from curate.io import can_grow, count_rows, declared_columns, judge_content, read_rows

RECORDS: list[dict[str, Any]] = [{"text": "ä", "n": 1}, {"text": "b\nc", "n": 2}, {"text": '"', "n": 3}]
LINES = b"".join(json.dumps(record).encode() + b"\n" for record in RECORDS)


def zstd(content: bytes) -> bytes:
    return pyarrow.compress(content, codec="zstd", asbytes=True)


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
}


def rows(path: Path, content: bytes, after: int = 0) -> list[Any]:
    path.write_bytes(content)
    return [(number, row.code if isinstance(row, RecordError) else row) for number, row in read_rows(path, after=after)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "corpus.anything"


class TestCompressions:
    @pytest.mark.parametrize("name", COMPRESSIONS)
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
    def test_lines_in_any_encoding_and_compression_give_the_same_records(
        self, path: Path, name: str, encoding: str
    ) -> None:
        content = COMPRESSIONS[name](LINES.decode().encode(encoding))
        assert rows(path, content) == list(enumerate(RECORDS, start=1))
        assert judge_content(path).compression == name

    @pytest.mark.parametrize("name", COMPRESSIONS)
    def test_file_cut_off_in_the_middle_stops_the_run(self, path: Path, name: str) -> None:
        content = COMPRESSIONS[name](b"".join(b'{"n": %d}\n' % (number * 7919) for number in range(50_000)))
        with pytest.raises(InfrastructureError, match=r"corpus\.anything to its end"):
            rows(path, content[:-20])

    def test_utf_16_cut_in_a_character_stops_the_run(self, path: Path) -> None:
        with pytest.raises(InfrastructureError, match=r"corpus\.anything"):
            rows(path, LINES.decode().encode("utf-16")[:-1])


class TestArrays:
    def test_array_gives_its_objects_with_their_numbers(self, path: Path) -> None:
        array = json.dumps(RECORDS, indent=2).encode()
        assert rows(path, array) == list(enumerate(RECORDS, start=1))
        assert rows(path, array, after=2) == [(3, RECORDS[2])]
        assert rows(path, b"\xef\xbb\xbf \n[]\n") == []

    def test_element_that_is_no_record_costs_itself(self, path: Path) -> None:
        found = rows(path, b'[{"a": 1}, 7, {"a": NaN}, [1], "x,]", {"a": "]"}]')
        assert found == [
            (1, {"a": 1}),
            *((number, "bad_json") for number in (2, 3, 4, 5)),
            (6, {"a": "]"}),
        ]

    def test_records_of_more_than_a_block_are_read(self, path: Path) -> None:
        big = [{"text": "x" * 300_000, "n": number} for number in range(5)]
        assert rows(path, json.dumps(big).encode()) == list(enumerate(big, start=1))

    @pytest.mark.parametrize(
        "content", [b'[{"a": 1}', b'[{"a": 1},', b'[{"a": ', b'[{"a": 1} {"a": 2}]', b'[{"a": 1}] 5']
    )
    def test_broken_array_stops_the_run(self, path: Path, content: bytes) -> None:
        with pytest.raises(InfrastructureError, match="array"):
            rows(path, content)


class TestTables:
    def test_tsv_has_no_quotation_marks_and_null_for_nothing(self, path: Path) -> None:
        table = b'path\tsentence\tage\tduration\na.mp3\t"Hi," he said\t\t1.5\nb.mp3\t"x"\t30\t2\n'
        assert rows(path, table) == [
            (2, {"path": "a.mp3", "sentence": '"Hi," he said', "age": None, "duration": 1.5}),
            (3, {"path": "b.mp3", "sentence": '"x"', "age": "30", "duration": 2}),
        ]
        assert declared_columns(path) == ["path", "sentence", "age", "duration"]
        assert count_rows(path) == 2

    @pytest.mark.parametrize("delimiter", [",", ";"])
    def test_csv_is_quoted_and_numbered_by_the_line_a_row_begins_on(self, path: Path, delimiter: str) -> None:
        table = 'path,text\r\na.wav,"one\r\ntwo, ""three"""\r\n\r\nb.wav,four\r\n'.replace(",", delimiter).encode()
        assert rows(path, table) == [
            (2, {"path": "a.wav", "text": f'one\ntwo{delimiter} "three"'}),
            (5, {"path": "b.wav", "text": "four"}),
        ]
        assert rows(path, table, after=2) == [(5, {"path": "b.wav", "text": "four"})]

    def test_row_with_other_cells_or_not_in_utf_8_costs_itself(self, path: Path) -> None:
        table = b"a\tb\n1\t2\n1\n1\t2\t3\n\xff\t2\n3\t4\n"
        assert rows(path, table) == [
            (2, {"a": "1", "b": "2"}),
            *((number, "bad_row") for number in (3, 4, 5)),
            (6, {"a": "3", "b": "4"}),
        ]

    def test_quotation_mark_that_is_never_closed_stops_the_run(self, path: Path, monkeypatch: Any) -> None:
        from curate.io import jsonl

        monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 1000)
        with pytest.raises(InfrastructureError, match="row at line 2 does not end"):
            rows(path, b'a,b\n1,"2\n' + b"3,4\n" * 1000)

    def test_long_first_row_is_judged_whatever_the_process_has_limited(self, path: Path) -> None:
        before = csv.field_size_limit(10)
        try:
            path.write_bytes(b"[" * 3000 + b",a\n1,2\n")
            assert judge_content(path).form == "json lines"
            assert rows(path, b"a_long_name,b\n1,2\n") == [(2, {"a_long_name": "1", "b": "2"})]
        finally:
            csv.field_size_limit(before)

    @pytest.mark.parametrize("first", [b"12,0.5", b"text,text", b"one word", b'{"a": 1},2', b"a\r,b", b"\na,b"])
    def test_first_row_that_names_no_columns_is_not_a_table(self, path: Path, first: bytes) -> None:
        path.write_bytes(first + b"\n")
        assert judge_content(path).form == "json lines"


OTHERS = {
    "a recording (RIFF)": (b"RIFF\x24\0\0\0WAVEfmt ", "read_folder"),
    "a recording (FLAC)": (b"fLaC\0\0\0\x22", "read_folder"),
    "a recording (MP3)": (b"ID3\x03\0\0\0", "read_folder"),
    "a recording or a video (MP4)": (b"\0\0\0\x20ftypM4A \0\0", "read_folder"),
    "a tar": (b"a.wav".ljust(257, b"\0") + b"ustar\x0000" + bytes(200), "read_webdataset"),
    "an Arrow stream": (b"\xff\xff\xff\xff\x10\0\0\0", "read_hf"),
    "a zip archive": (b"PK\x03\x04\x14\0", "unpack"),
    "HTML or XML": (b"<!DOCTYPE html>\n<html>", "error page"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "one JSON object over several lines": (json.dumps({"a": 1, "b": [1]}, indent=1).encode(), "JSON array"),
}


@pytest.mark.parametrize("described", OTHERS)
def test_file_without_records_is_named_with_what_reads_it(path: Path, described: str) -> None:
    content, remedy = OTHERS[described]
    with pytest.raises(PlanError) as caught:
        rows(path, content)
    assert f"is {described}, not a manifest" in str(caught.value)
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    ("content", "grows"),
    [(LINES, True), (b"a\tb\n1\t2\n", True), (json.dumps(RECORDS).encode(), False), (gzip.compress(LINES), False)],
    ids=["lines", "table", "array", "gzip"],
)
def test_only_plain_lines_can_grow(path: Path, content: bytes, grows: bool) -> None:
    path.write_bytes(content)
    assert can_grow(path) is grows
