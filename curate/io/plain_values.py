"""Values of typed tables as values of JSON: dates, times and decimals as text, a missing number as null."""

from __future__ import annotations

import datetime
import decimal
import math
from typing import Any, cast

from curate.errors import RecordError
from curate.records import Record

_PLAIN = frozenset({str, int, bool, type(None)})


class _NotPlainError(ValueError):
    """A value that JSON cannot hold; the message is a description of it."""


def plain_row(row: Record) -> Record | RecordError:
    """Return a row with values that JSON can hold, or the error of a row that has another one.

    A date or time becomes text in ISO 8601, a decimal the text of its digits, NaN null (as pandas writes a missing
    number), and a map with strings for keys an object.
    """
    for name, value in row.items():
        kind = cast("type[Any]", type(value))
        if kind in _PLAIN or (kind is float and math.isfinite(value)):
            continue
        try:
            row[name] = _plain(value)
        except _NotPlainError as error:
            return RecordError("bad_row", f"column {name!r} holds {error}, which no record may have")
    return row


def _plain(value: Any) -> Any:
    kind = cast("type[Any]", type(value))
    if kind in _PLAIN:
        return value
    if kind is float:
        if math.isinf(value):
            raise _NotPlainError(repr(value))
        return None if math.isnan(value) else value
    if kind is dict:
        return {str(name): _plain(item) for name, item in value.items()}
    if kind is list:
        if value and all(type(item) is tuple for item in value):
            return _plain_map(value)
        return [_plain(item) for item in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | datetime.timedelta):
        return str(value)
    raise _NotPlainError(f"a {kind.__name__}")


def _plain_map(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    """Return the pairs that a map is read as; its keys are strings."""
    odd = next((key for key, _ in pairs if not isinstance(key, str)), None)
    if odd is not None:
        raise _NotPlainError(f"a map with the key {odd!r:.40}")
    return {key: _plain(item) for key, item in pairs}
