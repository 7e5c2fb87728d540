"""Records as lines of JSON: how shards and published manifests hold them."""

from __future__ import annotations

import json
import math
import re
from pathlib import PurePath
from typing import Any, cast

from curate.records import ID, Record

_PREFIX = re.compile(rb'\{"_id": "(?:[^"\\]|\\.)*"(?:, )?')


def _default(value: Any) -> Any:
    if isinstance(value, PurePath):
        return str(value)
    item = getattr(value, "item", None)  # NumPy's and torch's scalars
    if item is not None and getattr(value, "shape", None) == ():
        return item()
    raise TypeError(f"a value of type {type(value).__name__} is not JSON")


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_default).encode
_encode_ascii = json.JSONEncoder(ensure_ascii=True, allow_nan=False, default=_default).encode


def encode_row(record: Record) -> bytes:
    """Return a record as one line of JSON, its `_id` first.

    Raises:
        TypeError, ValueError: a column holds what JSON cannot; the message names the column.
    """
    ordered = {ID: record[ID], **record}
    try:
        return _encode(ordered).encode() + b"\n"
    except UnicodeEncodeError:  # lone surrogates, as in file names that are not UTF-8
        return _encode_ascii(ordered).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise type(error)(f"column {_culprit(record)!r}: {error}") from None


def _culprit(record: Record) -> str:
    for name, value in record.items():
        try:
            _encode(value)
        except (TypeError, ValueError):
            return name
    return "?"


def decode_row(line: bytes) -> Record:
    """Return the record of a line that `encode_row` has written."""
    return cast("Record", json.loads(line))


def without_id(line: bytes) -> bytes:
    """Return an encoded row without its `_id`, byte for byte as `encode_row` would have written the rest."""
    match = _PREFIX.match(line)
    return line if match is None else b"{" + line[match.end() :]


def is_finite_number(value: object) -> bool:
    """Return whether a value is an int or a float that is neither NaN nor infinite; True and False are no numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def encode_note(note: Record) -> bytes:
    """Return a note about a record as one line of JSON; values that are not JSON are described, never refused."""
    try:
        return encode_row(note)
    except (TypeError, ValueError):
        return _encode_ascii(cast("Record", _printable(note))).encode() + b"\n"


def _printable(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, dict):
        return {str(name): _printable(item) for name, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_printable(item) for item in cast("list[Any]", value)]
    return value if is_finite_number(value) else repr(value)
