"""Manifests from anywhere: any bytes give records and errors of lines, or one error of the file; never a crash."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from curate.errors import InfrastructureError, PlanError, RecordError
from curate.io import judge_content, read_rows
from curate.io.compression import compression_of
from curate.io.jsonl import parse_line
from curate.io.rows import decode_row, encode_row

FRAGMENTS = [b'{"a": 1}', b"{", b"}", b"[", b"]", b'"', b"\\", b"\\ud800", b"NaN", b"1e999", b"-Infinity", b"1" * 5000]
FRAGMENTS += [b"\n", b"\r\n", b"\0", b"\xef\xbb\xbf", b"\xff", "\u2028".encode(), b'{"_id": "x"}', b"null", b"[" * 3000]

lines = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=20), max_size=12).map(b"".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def is_json(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict | list):
        return all(map(is_json, value.values() if isinstance(value, dict) else value))
    return value is None or isinstance(value, str | int)


@given(lines)
def test_any_line_is_a_record_that_can_be_stored_or_an_error(line: bytes) -> None:
    parsed = parse_line(line)
    if isinstance(parsed, RecordError):
        assert parsed.code == "bad_json"
        return
    assert is_json(parsed)
    record = {**parsed, "_id": "x:1"}
    assert decode_row(encode_row(record)) == record


@given(st.lists(lines, max_size=6), st.sampled_from(["m.jsonl", "m.jsonl.gz", "m.parquet"]), st.booleans())
@example([b'\xfd7zXZ\x00{"a": 1}'], "m.jsonl", False)
@example([b"\xfd7zXZ\x00"], "m.jsonl", False)
def test_any_file_is_read_to_its_end_or_refused(
    tmp_path_factory: Any, some: list[bytes], name: str, real: bool
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / name
    content = b"\n".join(some)
    path.write_bytes(gzip.compress(content) if real and name.endswith(".gz") else content)
    try:
        rows = list(read_rows(path))
    except InfrastructureError as error:
        assert name in str(error)
        # whatever is in a line is that line's, but where the next record of a broken array begins is unknown
        try:
            judged = judge_content(path)
        except EOFError:  # only what is compressed can be damaged before its first line
            assert compression_of(path.read_bytes())
            return
        assert name != "m.jsonl" or judged.form == "json array" or judged.encoding != "utf-8" or judged.compression
        return
    except PlanError as error:
        assert "not a manifest" in str(error)
        return
    numbers = [number for number, _ in rows]
    assert numbers == sorted(set(numbers))
    assert len(numbers) <= content.count(b"\n") + 1
    middle = numbers[len(numbers) // 2] if numbers else 0
    assert [number for number, _ in read_rows(path, after=middle)] == [number for number in numbers if number > middle]


@given(st.lists(st.dictionaries(st.text(max_size=8), values, max_size=4), max_size=5))
def test_what_was_written_as_json_is_read_as_it_was(tmp_path_factory: Any, records: list[dict[str, Any]]) -> None:
    path: Path = tmp_path_factory.mktemp("fuzz") / "m.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert [row for _, row in read_rows(path)] == records
