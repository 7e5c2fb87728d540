"""Records as lines of JSON: they come back as they were, and the published line has no `_id`."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import uuid
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.io.rows import UnstorableValueError, decode_row, encode_note, encode_row, is_finite_number, without_id

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.text(st.characters(codec=None)), st.dictionaries(st.text().filter(lambda name: name != "_id"), VALUES))
def test_a_record_comes_back_and_its_line_can_lose_the_id(identity: str, columns: dict[str, Any]) -> None:
    line = encode_row({**columns, "_id": identity})
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_row(line) == {"_id": identity, **columns}
    assert list(decode_row(line)) == ["_id", *columns]
    published = without_id(line)
    assert json.loads(published) == columns
    assert published.count(b"\n") == 1


def test_names_of_files_that_are_not_utf8_survive() -> None:
    record = {"_id": "a\udcff:1", "audio_filepath": "b\udce4.wav"}
    assert decode_row(encode_row(record)) == record
    assert json.loads(without_id(encode_row(record))) == {"audio_filepath": "b\udce4.wav"}


def test_scalars_of_numpy_and_paths_are_written_as_what_they_mean() -> None:
    record = {"_id": "a:1", "n": np.int64(3), "x": np.float32(0.5), "ok": np.bool_(True), "p": Path("a/b")}
    assert decode_row(encode_row(record)) == {"_id": "a:1", "n": 3, "x": 0.5, "ok": True, "p": "a/b"}


class Kind(enum.Enum):
    SPEECH = "speech"
    NESTED = ("a", 1)


class Pair(NamedTuple):
    first: int
    second: str


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC), "2024-02-29T12:30:00+00:00"),
        (datetime.time(12, 30), "12:30:00"),
        (decimal.Decimal("0.10"), "0.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Kind.SPEECH, "speech"),
        (Kind.NESTED, ["a", 1]),
        ((1, "b"), [1, "b"]),
        (Pair(1, "b"), [1, "b"]),
        (PurePosixPath("a/b"), "a/b"),
        (np.int16(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.array(2.5), 2.5),
        (np.datetime64("2024-02-29"), "2024-02-29"),
        ({"inner": [datetime.date(2024, 2, 29), (decimal.Decimal("1"),)]}, {"inner": ["2024-02-29", ["1"]]}),
    ],
)
def test_value_with_one_json_form_is_stored_in_it(value: Any, stored: Any) -> None:
    assert decode_row(encode_row({"_id": "a:1", "v": value}))["v"] == stored


class HasIsoformat:
    def isoformat(self) -> str:
        return "2024-02-29"


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (np.zeros(3), "store its .tolist()"),
        ([{"x": np.zeros(3)}], "store its .tolist()"),
        ({1, 2}, "store a list, such as sorted"),
        (b"x", "store its .decode()"),
        (datetime.timedelta(seconds=1), "store its .total_seconds()"),
        (HasIsoformat(), "store its .isoformat()"),
        (np.timedelta64(3, "s"), "store a number of seconds"),
        (float("nan"), "nan is not JSON; store None, or a finite number"),
        ({"a": [1.0, float("-inf")]}, "-inf is not JSON; store None"),
        (decimal.Decimal, "store a string, a number"),
        ({1: 2}, "the key 1 is not a string"),
    ],
)
def test_value_without_a_json_form_is_refused_with_the_remedy(value: Any, remedy: str) -> None:
    with pytest.raises(UnstorableValueError, match="column 'v': ") as caught:
        encode_row({"_id": "a:1", "fine": 1, "v": value})
    assert remedy in str(caught.value)
    assert caught.value.column == "v"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"x", {1, 2}, np.zeros(3), object(), [float("nan")]])
def test_what_json_cannot_hold_is_named_by_its_column_and_described_in_notes(value: Any) -> None:
    record = {"_id": "a:1", "fine": 1, "odd": value}
    with pytest.raises(ValueError, match="column 'odd'"):
        encode_row(record)
    note = decode_row(encode_note({"_id": "a:1", "code": "bad_value", "record": {"fine": 1, "odd": value}}))
    assert note["record"]["fine"] == 1
    assert isinstance(note["record"]["odd"], str)


@pytest.mark.parametrize("value", [0, -1, 2.5, 10**300, np.float64(1.5)])
def test_finite_numbers(value: Any) -> None:
    assert is_finite_number(value)


@pytest.mark.parametrize("value", [True, None, "1", float("nan"), float("inf"), 10**400, [1], 1j])
def test_what_is_no_finite_number(value: Any) -> None:
    assert not is_finite_number(value)


@pytest.mark.parametrize(
    "value",
    [
        {1: "a", "1": "b"},
        [{"x": {None: 1}}],
        ({2.5: 1},),
        np.datetime64("2020-01-01T00:00:00.000000001"),
        np.timedelta64(3, "s"),
    ],
)
def test_what_json_would_change_without_a_word_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="column 'v'"):
        encode_row({"_id": "r:1", "v": value})


def test_a_column_whose_name_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="the key 1 is not a string"):
        encode_row({"_id": "r:1", 1: "a", "1": "b"})  # pyright: ignore[reportArgumentType]


def test_a_value_that_cannot_be_asked_for_is_refused() -> None:
    class Meta:
        shape = ()

        def item(self) -> float:
            raise RuntimeError("cannot be called on meta tensors")

    with pytest.raises(ValueError, match="column 'v': a value of type Meta has no plain value"):
        encode_row({"_id": "r:1", "v": Meta()})
