"""The values of expressions: their kinds, comparisons, arithmetic and functions, and their form in messages."""

from __future__ import annotations

import ast
import math
import operator
import reprlib
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, Final, TypeAlias, cast

import attrs

Record: TypeAlias = Mapping[str, Any]
Path: TypeAlias = tuple[str, ...]
"""A column as its names from the outermost inward: `meta.snr` is `("meta", "snr")`."""

MAX_BITS: Final = 14_000
"""The maximum size of an integer, as a literal or a product: 4214 digits, slightly less than Python can print."""

MAX_TEXT: Final = 1_000_000
"""The maximum number of characters of a string that `replace` makes."""

# The kinds of values, as messages name them.
NUMBER: Final = "a number"
TEXT: Final = "text"
BOOL: Final = "True or False"
LIST: Final = "a list"
COLUMN_KINDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("audio_filepath", "text", "pred_text", "lang"), TEXT),
    **dict.fromkeys(("duration", "offset", "wer", "cer"), NUMBER),
}
"""Column → its kind, of the columns that mean the same everywhere; a wrong comparison is found in the plan."""
MAPPING: Final = "a mapping"

_KINDS: Final[Mapping[type, str]] = {
    int: NUMBER,
    float: NUMBER,
    str: TEXT,
    bool: BOOL,
    list: LIST,
    tuple: LIST,
    dict: MAPPING,
}


def kind_of(value: object) -> str:
    """Return the kind of a value: one of the constants above, or `of type …`."""
    exact = _KINDS.get(type(value))
    if exact is not None:
        return exact
    # NumPy's scalars, among others: slow, but rare. A bool cannot get here, since it has no subclasses.
    for kind, base in ((NUMBER, Real), (TEXT, str), (LIST, list), (MAPPING, Mapping)):
        if isinstance(value, base):
            return kind
    return f"of type {type(value).__name__}"


def look_up(record: Record, path: Path) -> Any:
    """Return the value of a column, None if its path ends early."""
    value: Any = record
    for name in path:
        is_mapping = type(value) is dict or isinstance(value, Mapping)  # the former is quick, and nearly always true
        value = cast("Record", value).get(name) if is_mapping else None
    return value


_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlong = 40


def short_repr(value: Any) -> str:
    """Return the representation of a value for a message, shortened to a bounded length."""
    if type(value) is float:
        return repr(value)  # the fast path of the most frequent case
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python does not print whole numbers of more than 4300 digits
        return f"a very long {type(value).__name__}"


@attrs.frozen
class Comparison:
    """A comparison operator, with its negation and its mirror image."""

    symbol: str
    holds: Callable[[Any, Any], bool]
    negated: str
    mirrored: str

    @property
    def compares(self) -> frozenset[str]:
        """The kinds of values that it can compare."""
        return frozenset({NUMBER, TEXT, BOOL} if self.symbol in ("==", "!=") else {NUMBER, TEXT})


def _unequal(a: Any, b: Any) -> bool:
    return bool(a != b and a == a and b == b)  # only NaN differs from itself


COMPARISONS: Final[Mapping[str, Comparison]] = {
    comparison.symbol: comparison
    for comparison in (
        Comparison("<", operator.lt, negated=">=", mirrored=">"),
        Comparison("<=", operator.le, negated=">", mirrored=">="),
        Comparison(">", operator.gt, negated="<=", mirrored="<"),
        Comparison(">=", operator.ge, negated="<", mirrored="<="),
        Comparison("==", operator.eq, negated="!=", mirrored="=="),
        Comparison("!=", _unequal, negated="==", mirrored="!="),
    )
}
SYMBOLS: Final[Mapping[type[ast.cmpop], str]] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}


def _product(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int) and a.bit_length() + b.bit_length() > MAX_BITS:
        raise OverflowError("the product has too many digits")
    return a * b


ARITHMETIC: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: _product,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
}


@attrs.frozen
class Function:
    """A function of the language.

    Args:
        usage: its syntax, for messages.
        takes: the kinds that each argument may have.
        gives: the kind of its result; a function that gives BOOL is a condition.
        call: its implementation.
        variadic: whether more arguments like the last may follow.
    """

    usage: str
    takes: tuple[frozenset[str], ...]
    gives: str
    call: Callable[..., Any]
    variadic: bool = False


def _least(*numbers: Any) -> Any:
    return next((n for n in numbers if n != n), min(numbers))  # Python's min(1, nan) is 1, min(nan, 1) is nan


def _greatest(*numbers: Any) -> Any:
    return next((n for n in numbers if n != n), max(numbers))


def rounded(number: Any, digits: Any = None) -> Any:
    """Round as Python does, and return NaN and infinities unchanged."""
    return round(number, digits) if math.isfinite(number) else number


def _joined(*parts: Any) -> str:
    return "".join(part if isinstance(part, str) else str(part) for part in parts)


def _replaced(text: str, old: str, new: str) -> str:
    if not old or len(text) + text.count(old) * (len(new) - len(old)) > MAX_TEXT:
        raise OverflowError("the text to replace is empty" if not old else "the text has too many characters")
    return text.replace(old, new)


def _number(text: str) -> int | float:
    """Return the number that a string holds; a decimal comma is an error."""
    try:
        return int(text)
    except ValueError:
        return float(text)


NUMERIC: Final = frozenset({NUMBER})
_PLAIN: Final = frozenset({TEXT, NUMBER, BOOL})
_STRING: Final = frozenset({TEXT})
FUNCTIONS: Final[Mapping[str, Function]] = {
    "len": Function("len(x), of a string, a list or a mapping", (frozenset({TEXT, LIST, MAPPING}),), NUMBER, len),
    "abs": Function("abs(x)", (NUMERIC,), NUMBER, abs),
    "min": Function("min(x, y, …)", (NUMERIC, NUMERIC), NUMBER, _least, variadic=True),
    "max": Function("max(x, y, …)", (NUMERIC, NUMERIC), NUMBER, _greatest, variadic=True),
    "round": Function("round(x) or round(x, digits), digits from 0 to 15", (NUMERIC,), NUMBER, rounded),
    "lower": Function("lower(text)", (_STRING,), TEXT, str.lower),
    "upper": Function("upper(text)", (_STRING,), TEXT, str.upper),
    "strip": Function("strip(text)", (_STRING,), TEXT, str.strip),
    "replace": Function("replace(text, 'old', 'new')", (_STRING, _STRING, _STRING), TEXT, _replaced),
    "concat": Function("concat(x, y, …)", (_PLAIN, _PLAIN), TEXT, _joined, variadic=True),
    "number": Function("number(text)", (_STRING,), NUMBER, _number),
    "startswith": Function("startswith(text, 'start')", (_STRING, _STRING), BOOL, str.startswith),
    "endswith": Function("endswith(text, 'end')", (_STRING, _STRING), BOOL, str.endswith),
}
FUNCTION_NAMES: Final = (*FUNCTIONS, "contains", "column")
"""All names that are called: `contains` is another form of `in`, and `column` names a column."""
