"""Records as lines of JSON, the form of unit files and published manifests.

A column holds a string, a number, a bool, None, or lists and dicts of these. A few other values have one JSON form and
are stored in it:

    value                                       stored as
    a path                                      its string
    a date, a time, a datetime                  its `isoformat()`
    a `Decimal`, a `UUID`                       its string, which is exact
    an `Enum`                                   its `value`
    a tuple                                     a list
    a scalar or 0-dimensional array, of NumPy,  its `item()`
    torch and the like

Everything else is refused, with the method that makes it storable: NaN and infinity, arrays, sets, bytes, times without
a unit, keys that are not strings.
"""

from __future__ import annotations

import enum
import json.encoder
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath
from typing import Any, cast

from curate.records import ID, PLAIN_TYPES, Record

_PREFIX = re.compile(rb'\{"_id": "[^"\\]*(?:\\.[^"\\]*)*"(?:, )?')

_AS_STRINGS = frozenset({("decimal", "Decimal"), ("uuid", "UUID")})
_WITH_ISOFORMAT = frozenset({("datetime", "date"), ("datetime", "datetime"), ("datetime", "time")})
"""Classes by module and name, so that no module is imported for a class whose values do not occur."""


class UnstorableValueError(ValueError):
    """A column has a value that JSON cannot represent.

    Args:
        column: the column.
        fault: what is wrong with its value, and the remedy.
    """

    def __init__(self, column: str, fault: str) -> None:
        super().__init__(f"column {column!r}: {fault}")
        self.column = column


def _default(value: Any) -> Any:
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    names = {(cls.__module__, cls.__name__) for cls in type(value).__mro__}
    if names & _AS_STRINGS:
        return str(value)
    if names & _WITH_ISOFORMAT:
        return value.isoformat()
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        try:
            plain = value.item()
        except Exception as error:
            raise TypeError(f"a value of type {type(value).__name__} has no plain value: {error}") from error
        if getattr(getattr(value, "dtype", None), "kind", None) not in _TIMES or hasattr(plain, "isoformat"):
            return plain
        raise TypeError(f"a {type(value).__name__} of this unit has no JSON form; store a number of seconds")
    raise TypeError(f"a value of type {type(value).__name__} is not JSON; {_remedy(value)}")


_TIMES = ("M", "m")
"""The kinds of NumPy's times, whose plain value is a number without its unit where Python has no such type."""


def _remedy(value: Any) -> str:
    for method in ("tolist", "isoformat", "total_seconds", "item", "to_dict"):
        if callable(getattr(value, method, None)):
            return f"store its .{method}()"
    if isinstance(value, set | frozenset):
        return "store a list, such as sorted(…)"
    if isinstance(value, bytes | bytearray | memoryview):
        return "store its .decode()"
    return "store a string, a number, a bool, None, or a list or dict of these"


_is_a: Callable[[Any, type[Any]], bool] = isinstance
"""The same without a narrower type, which would need a cast for every record."""


def _check_keys(value: Any) -> None:
    """Check that every key is a string: JSON would convert numbers, and merge the keys `1` and `"1"`.

    Raises:
        TypeError: a key is not a string.
    """
    if _is_a(value, dict):
        for key, each in value.items():
            if type(key) is not str and not isinstance(key, str):
                raise TypeError(f"the key {key!r:.80} is not a string")
            if type(each) not in PLAIN_TYPES:
                _check_keys(each)
    elif isinstance(value, list | tuple):
        for each in cast("list[Any]", value):
            if type(each) not in PLAIN_TYPES:
                _check_keys(each)


def _made_once() -> Callable[[Any], str]:
    """Return a function that encodes a value as JSON; `JSONEncoder.encode` makes an encoder for every call.

    Values that contain themselves end in a `RecursionError`.
    """
    module = cast("Any", json.encoder)
    if module.c_make_encoder is None:  # an interpreter without it
        return json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_default).encode
    separators = ": ", ", "
    encode = module.c_make_encoder(
        None, _default, module.encode_basestring, None, *separators, False, False, False
    )  # no markers, no indent; neither sort keys, nor skip some, nor allow NaN
    join = "".join
    return lambda value: join(encode(value, 0))


_encode = _made_once()
_encode_ascii = json.JSONEncoder(ensure_ascii=True, allow_nan=False, default=_default).encode


def encode_json(value: Any) -> bytes:
    """Return a value as JSON in UTF-8; with lone surrogates, as in file names that are not UTF-8, all of it in ASCII.

    Raises:
        TypeError, ValueError: JSON cannot represent it.
    """
    text = _encode(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _encode_ascii(value).encode()


def encode_text(text: str) -> bytes:
    """Return a string in UTF-8: the bytes of file names that are not UTF-8 as they are, other lone surrogates escaped.

    A transcript may have them, because JSON can spell them (`"\\ud800"`).
    """
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace")


def encode_row(record: Record) -> bytes:
    """Return a record as one line of JSON, its `_id` first.

    Raises:
        UnstorableValueError: a column has a value that JSON cannot represent; the message names the column.
    """
    ordered = record if next(iter(record), None) == ID else {ID: record[ID], **record}
    try:
        _check_keys(record)
        return _encode(ordered).encode() + b"\n"  # not by `encode_json`: a call for every record
    except UnicodeEncodeError:
        return _encode_ascii(ordered).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        culprit = next((name for name, value in record.items() if not _is_json({name: value})), "?")
        raise UnstorableValueError(culprit, _fault_of(record.get(culprit)) or str(error)) from None


def _fault_of(value: Any) -> str:
    """Describe a number in a value that JSON does not have; "" if something else is wrong."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not JSON; store None, or a finite number"
    if isinstance(value, dict):
        inner: Iterable[Any] = cast("dict[str, Any]", value).values()
    else:
        inner = cast("Sequence[Any]", value) if isinstance(value, list | tuple) else ()
    try:
        return next((fault for each in inner if (fault := _fault_of(each))), "")
    except RecursionError:
        return ""


def decode_row(line: bytes) -> Record:
    """Return the record of a line that `encode_row` has written."""
    return cast("Record", json.loads(line))


def without_id(line: bytes) -> bytes:
    """Return an encoded row without its `_id`, byte for byte as `encode_row` would have written the rest."""
    match = _PREFIX.match(line)
    return line if match is None else b"{" + line[match.end() :]


def is_finite_number(value: object) -> bool:
    """Return whether a value is an int or a float that is neither NaN nor infinite, nor too large for a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def encode_note(note: Record) -> bytes:
    """Return a note about a record as one line of JSON; values that are not JSON are described, never refused."""
    try:
        return encode_row(note)
    except (TypeError, ValueError):
        described = {name: printable(cast("Record", v)) if type(v) is dict else v for name, v in note.items()}
        return encode_row(printable(described))


def printable(record: Record) -> Record:
    """Return a record in which every value that is not JSON is replaced by a description of it."""
    return {str(name): value if _is_json(value) else _shown(value) for name, value in record.items()}


def _is_json(value: Any) -> bool:
    try:
        _check_keys(value)
        _encode(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _shown(value: Any) -> str:
    try:
        return f"{value!r:.1000}"
    except Exception as error:  # noqa: BLE001 (a third-party __repr__)
        return f"a {type(value).__name__} that cannot be shown ({type(error).__name__})"
