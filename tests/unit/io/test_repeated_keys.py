"""A JSON object with a key twice loses one of the values in every parser, so its record goes to quarantine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import Pipeline
from curate.errors import RecordError
from curate.io.jsonl import parse_line
from curate.stages import ReadManifest

PLAIN = {"audio_filepath": "a.wav", "duration": 1.0, "text": 'a : "b":', "words": [{"word": "x", "start": 0.0}]}

VALUES = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('ab": \\\t,{}')),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.sampled_from('a": ')), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "line",
    [
        '{"a": 1, "a": 2}',
        '{"a": 1, "a": 1}',
        '{"a": 1, "a" : 2, "b": 3}',
        '{"a": 1, "a"\t: 2, "b": 3}',
        '{"a": 1, "\\u0061": 2}',
        '{"b": {"a": 1, "a": 2}}',
        '{"b": [{"a": 1, "a": 2}]}',
        '{"a": "\\":", "a": 2}',
    ],
)
def test_line_with_a_repeated_key_is_an_error_that_names_it(line: str) -> None:
    parsed = parse_line(line.encode())
    assert isinstance(parsed, RecordError)
    assert (parsed.code, parsed.message) == ("bad_json", "the key 'a' is repeated in an object")


@given(st.dictionaries(st.text(st.sampled_from('ab": ')), VALUES, max_size=4), st.sampled_from([None, 1]))
def test_line_without_repeated_keys_is_its_record(record: dict[str, Any], indent: int | None) -> None:
    text = json.dumps(record, separators=(" ,", " :") if indent else None)
    assert parse_line(text.encode()) == record


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_repeated_key_costs_its_record_in_lines_and_arrays(suffix: str, tmp_path: Path) -> None:
    rows = [json.dumps(PLAIN), '{"text": "one", "text": "two"}', json.dumps(PLAIN)]
    text = "[" + ",".join(rows) + "]" if suffix == ".json" else "\n".join(rows)
    (tmp_path / f"in{suffix}").write_text(text)
    result = Pipeline("p", [ReadManifest(tmp_path / f"in{suffix}")]).run()
    assert result.summary["kept"] == 2
    assert [(note.code, note.record["_id"].rpartition(":")[2]) for note in result.quarantined] == [("bad_json", "2")]
