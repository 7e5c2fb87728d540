"""The quality filter's expression: a condition over a record's columns, such as `wer <= 0.3 and 0.5 <= duration <= 30`.

The text is read with Python's own parser and translated once, from a short list of allowed forms, into nested
functions. It never becomes Python code, so an expression can only look at the record and compute.

A *condition* is true or false, a *value* is what conditions are about:

    condition   value < value (also <= > >= == !=, and chains: 0.5 <= duration <= 30)
                value in ["en", "de"], value not in […], "noisy" in tags, "uh" in text
                column is None, column is not None
                condition and condition, condition or condition, not condition
                startswith(text, "a"), endswith(text, "."), contains(tags, "noisy")
                a column of True and False; True; False
    value       a column: wer, meta.snr (a nested mapping), column("name that is no identifier")
                a number, a 'text', True, False
                + - * / // % and the minus sign, on numbers
                len, abs, min, max, round, lower, upper

It means what Python means, short circuits included, with these differences, all of which keep a record from being
kept or dropped by accident:

- A column that is missing or null is an error of the record (`missing_column`), except under `is None`.
- Unlike types are not compared: `"3" == 3` is an error of the record (`bad_value`), and so is a bool as a number.
- NaN satisfies no comparison, not even `!=`, `not in` or a negated one: `not` is carried inward, so that
  `not wer > 0.3` is `wer <= 0.3`. A record whose `wer` is NaN therefore fails every clause about `wer`.
"""

from __future__ import annotations

import ast
import difflib
import functools
import math
import operator
import re
import reprlib
import warnings
from collections.abc import Callable, Container, Iterable, Mapping
from numbers import Real
from typing import Any, Final, TypeAlias, cast

import attrs

from curate.errors import PlanError, RecordError

MAX_CHARACTERS: Final = 10_000
MAX_DEPTH: Final = 50
MAX_BITS: Final = 14_000
"""Of a whole number, as a literal or a product: 4214 digits, a little less than Python still prints."""

Record: TypeAlias = Mapping[str, Any]
Read: TypeAlias = Callable[[Record], Any]
Check: TypeAlias = Callable[[Record], bool]
Path: TypeAlias = tuple[str, ...]


@attrs.frozen
class Threshold:
    """A bare column against a number, column first: `0.5 <= duration` is `Threshold("duration", ">=", 0.5)`."""

    column: str
    operator: str
    value: float


@attrs.frozen
class Clause:
    """One of the conditions that the expression joins with `and`."""

    text: str
    """Its canonical source: single spaces, single quotes, no needless parentheses."""
    paths: tuple[Path, ...]
    """The columns it reads, in the order of their appearance, each as its names from the outermost inward."""
    thresholds: tuple[Threshold, ...]
    holds: Check = attrs.field(repr=False, eq=False)
    """Whether a record satisfies it. Raises RecordError as `Expression.failed_clause` does."""

    def reason(self, record: Record) -> str:
        """The clause with the record's values, as in `wer <= 0.3 (wer = 0.52)`."""
        values = ", ".join(f"{'.'.join(path)} = {_shown(_peek(record, path))}" for path in self.paths)
        return f"{self.text} ({values})" if values else self.text


@attrs.frozen
class Expression:
    """A condition over the columns of a record, checked when it is made, equal to another of the same text.

    Pickled and copied as its text, since functions made at run time cannot travel.
    """

    text: str
    clauses: tuple[Clause, ...] = attrs.field(init=False, repr=False, eq=False)
    columns: frozenset[str] = attrs.field(init=False, repr=False, eq=False)
    """The record's columns that it reads; of a nested one, `meta.snr`, the outermost."""

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Read an expression.

        Raises:
            PlanError: it is not one; the message shows the place and what is allowed.
        """
        return cls(text)

    def __attrs_post_init__(self) -> None:
        source = _Source(self.text)
        clauses = tuple(_translate(operand, source) for operand in _and_operands(source.parse()))
        # attrs' own way to set what is derived on a frozen instance.
        object.__setattr__(self, "clauses", clauses)
        object.__setattr__(self, "columns", frozenset(path[0] for clause in clauses for path in clause.paths))

    def __reduce__(self) -> tuple[Callable[[str], Expression], tuple[str]]:
        return Expression, (self.text,)

    def __str__(self) -> str:
        return self.text

    def failed_clause(self, record: Record) -> str | None:
        """None for a record to keep; otherwise the first clause it fails, with its values: `wer <= 0.3 (wer = 0.52)`.

        Later clauses are not looked at, so what they would complain about does not matter.

        Raises:
            RecordError: `missing_column` or `bad_value`, naming the column and the clause.
        """
        for clause in self.clauses:
            if not clause.holds(record):
                return clause.reason(record)
        return None

    def thresholds(self) -> list[Threshold]:
        """What the clauses that only compare a bare column with numbers demand, for drawing into histograms."""
        return [threshold for clause in self.clauses for threshold in clause.thresholds]


# What a value can be, in the words of the messages.
NUMBER: Final = "a number"
TEXT: Final = "text"
BOOL: Final = "True or False"
LIST: Final = "a list"
MAPPING: Final = "a mapping"
COMPARABLE: Final = frozenset({NUMBER, TEXT, BOOL})
ORDERED: Final = frozenset({NUMBER, TEXT})

_KINDS: Final[Mapping[type, str]] = {
    int: NUMBER,
    float: NUMBER,
    str: TEXT,
    bool: BOOL,
    list: LIST,
    tuple: LIST,
    dict: MAPPING,
}


def _kind(value: object) -> str:
    exact = _KINDS.get(type(value))
    if exact is not None:
        return exact
    # numpy's scalars, among others; slow, and rare enough. A bool cannot come here, since it has no subclasses.
    for kind, base in ((NUMBER, Real), (TEXT, str), (LIST, list), (MAPPING, Mapping)):
        if isinstance(value, base):
            return kind
    return f"of type {type(value).__name__}"


def _unequal(a: Any, b: Any) -> bool:
    return bool(a != b and a == a and b == b)  # only NaN is unlike itself


_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": _unequal,
}
_SYMBOLS: Final[Mapping[type[ast.cmpop], str]] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_NEGATED: Final = {"<": ">=", ">=": "<", ">": "<=", "<=": ">", "==": "!=", "!=": "=="}
_MIRRORED: Final = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "==": "==", "!=": "!="}


def _product(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int) and a.bit_length() + b.bit_length() > MAX_BITS:
        raise OverflowError("the product has too many digits")
    return a * b


_ARITHMETIC: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: _product,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
}


def _least(*numbers: Any) -> Any:
    return next((n for n in numbers if n != n), min(numbers))  # Python's min(1, nan) is 1, min(nan, 1) is nan


def _greatest(*numbers: Any) -> Any:
    return next((n for n in numbers if n != n), max(numbers))


def _rounded(number: Any, digits: Any = None) -> Any:
    return round(number, digits) if math.isfinite(number) else number


@attrs.frozen
class _Function:
    usage: str
    takes: tuple[frozenset[str], ...]
    gives: str
    call: Callable[..., Any]
    variadic: bool = False


_A_NUMBER: Final = frozenset({NUMBER})
_A_TEXT: Final = frozenset({TEXT})
_FUNCTIONS: Final[Mapping[str, _Function]] = {
    "len": _Function("len(x), of a text, a list or a mapping", (frozenset({TEXT, LIST, MAPPING}),), NUMBER, len),
    "abs": _Function("abs(x)", (_A_NUMBER,), NUMBER, abs),
    "min": _Function("min(x, y, …)", (_A_NUMBER, _A_NUMBER), NUMBER, _least, variadic=True),
    "max": _Function("max(x, y, …)", (_A_NUMBER, _A_NUMBER), NUMBER, _greatest, variadic=True),
    "round": _Function("round(x) or round(x, digits), digits from 0 to 15", (_A_NUMBER,), NUMBER, _rounded),
    "lower": _Function("lower(text)", (_A_TEXT,), TEXT, str.lower),
    "upper": _Function("upper(text)", (_A_TEXT,), TEXT, str.upper),
    "startswith": _Function("startswith(text, 'start')", (_A_TEXT, _A_TEXT), BOOL, str.startswith),
    "endswith": _Function("endswith(text, 'end')", (_A_TEXT, _A_TEXT), BOOL, str.endswith),
}
_FUNCTION_NAMES: Final = (*_FUNCTIONS, "contains", "column")

_NEWLINE: Final = re.compile(r"\r\n|\r|\n")
_ALLOWED: Final = (
    "Allowed are columns, numbers, 'text', True and False, < <= > >= == !=, in, is None, and, or, not, + - * / // %, "
    f"and {', '.join(_FUNCTION_NAMES)}."
)


_FORMS: Final = (
    *(ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Compare, ast.In, ast.NotIn, ast.Is, ast.IsNot),
    *(ast.BinOp, ast.Call, ast.Name, ast.Attribute, ast.Load, ast.Constant, ast.List, ast.Tuple),
    *_SYMBOLS,
    *_ARITHMETIC,
)
_FOREIGN_FORMS: Final[Mapping[type[ast.AST], str]] = {
    ast.BitAnd: "write and instead of &",
    ast.BitOr: "write or instead of |",
    ast.Invert: "write not instead of ~",
    ast.Pow: "** is not allowed",
    ast.UAdd: "leave out the plus sign",
    ast.NamedExpr: "write == to compare",
    ast.Subscript: "subscripts are not allowed; a nested column is written meta.snr",
    ast.Set: "write a list, [1, 2]",
    ast.keyword: "arguments are given without names",
    ast.JoinedStr: "f-strings are not allowed",
    ast.Lambda: "lambdas are not allowed",
    ast.IfExp: "if … else is not allowed; use and, or",
}


class _Source:
    """The text of an expression: parses it, and shows places in it."""

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  (YAML's `filter: true`)
            raise PlanError(f"a filter expression must be text, not {_shown(text)}")
        if len(text) > MAX_CHARACTERS:
            raise PlanError(f"the filter expression has {len(text):,} characters; at most {MAX_CHARACTERS:,} are read")
        self.text = text.strip()
        if not self.text:
            raise PlanError('the filter expression is empty; write a condition, such as "wer <= 0.3"')
        self.lines = _NEWLINE.split(self.text)
        # Inside parentheses a line may end anywhere, so YAML's block texts read as they look.
        self._wrapped = len(self.lines) > 1
        self._parsed = [f"({self.lines[0]}", *self.lines[1:], ")"] if self._wrapped else self.lines

    def parse(self) -> ast.expr:
        try:
            # Python warns of `"\d"` and of `1or x`, by version in different ways; here both are mistakes.
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                tree = ast.parse("\n".join(self._parsed), mode="eval").body
        except SyntaxError as error:
            raise self._misread(error) from None
        except (ValueError, RecursionError, MemoryError, Warning) as error:
            what = "nested too deeply" if isinstance(error, RecursionError | MemoryError) else f"unreadable: {error}"
            raise PlanError(f"the filter expression is {what}") from None
        if self._wrapped and tree.lineno == 1 and tree.col_offset == 0:
            if not isinstance(tree, ast.Tuple | ast.GeneratorExp):  # whose parentheses belong to them
                raise self._error("a parenthesis is closed before it is opened", 0, 0)
            if isinstance(tree, ast.Tuple) and not tree.elts:
                raise PlanError("the filter expression is empty")
        self._refuse_foreign(tree)
        return tree

    def _refuse_foreign(self, tree: ast.expr) -> None:
        """Let pass only known forms, shallow enough for what follows to recurse and unparse without care."""
        level: list[tuple[ast.AST, ast.expr]] = [(tree, tree)]
        for _ in range(MAX_DEPTH):
            for node, place in level:
                if not isinstance(node, _FORMS):
                    raise self.at(place, _FOREIGN_FORMS.get(type(node), "this is not allowed"), _ALLOWED)
                if (
                    isinstance(node, ast.Constant)
                    and isinstance(node.value, int)
                    and node.value.bit_length() > MAX_BITS
                ):
                    raise self.at(place, "the number has too many digits")
            level = [
                (child, child if isinstance(child, ast.expr) else place)
                for node, place in level
                for child in ast.iter_child_nodes(node)
            ]
            if not level:
                return
        raise self.at(level[0][1], f"nested more than {MAX_DEPTH} deep")

    def at(self, node: ast.expr, problem: str, hint: str = "") -> PlanError:
        """An error at a node, whose column Python counts in UTF-8 bytes."""
        line = node.lineno - 1
        column = len(self._parsed[line].encode()[: node.col_offset].decode(errors="replace"))
        return self._error(problem, line, column - (self._wrapped and line == 0), hint)

    def _error(self, problem: str, line: int, column: int, hint: str = "") -> PlanError:
        """An error at a place, counted from 0 and shown by a caret; a place outside the text stands for its end."""
        if not (0 <= line < len(self.lines) and 0 <= column <= len(self.lines[line])):
            line, column = len(self.lines) - 1, len(self.lines[-1])
        place = f"column {column + 1}" if len(self.lines) == 1 else f"line {line + 1}, column {column + 1}"
        start = max(column - 70, 0)
        window = "".join(c if c.isprintable() else " " for c in self.lines[line][start : column + 40])
        caret = " " * (column - start) + "^"
        parts = (f"filter expression, {place}: {problem}", f"    {window}", f"    {caret}", hint)
        return PlanError("\n".join(part for part in parts if part))

    def _misread(self, error: SyntaxError) -> PlanError:
        slip = self._slip()
        if slip is not None:
            advice, offset = slip
            before = _NEWLINE.split(self.text[:offset])
            return self._error(advice, len(before) - 1, len(before[-1]))
        line, column = (error.lineno or 1) - 1, (error.offset or 0) - 1
        problem = error.msg.split(";")[0]  # what follows is advice for programmers
        return self._error(problem, line, column - (self._wrapped and line == 0), _ALLOWED)

    def _slip(self) -> tuple[str, int] | None:
        """The first habit from another language, with its offset in the text; looked for outside quotes."""
        for match in _SLIPS.finditer(self.text):
            advice = _SLIP_ADVICE.get(match.group())
            if advice is not None:
                return advice, match.start()
        return None


_SLIPS: Final = re.compile(
    r"""'(?:[^'\\\n]|\\.)*' | "(?:[^"\\\n]|\\.)*"    # quoted text, passed over
    | \#.* | [<>=!:]=(?!=) | == | && | \|\| | <> | => | [=!] | \b(?:AND|OR|NOT|IN|IS|NULL)\b""",
    re.VERBOSE,
)
_SLIP_ADVICE: Final[Mapping[str, str]] = {
    "=": "write == to compare",
    ":=": "write == to compare",
    "<>": "write !=",
    "=>": "write >=",
    "&&": "write and",
    "||": "write or",
    "!": "write not",
    "NULL": "write None",
    **{word: f"write {word.lower()}" for word in ("AND", "OR", "NOT", "IN", "IS")},
}


_CONSTANTS: Final = {"true": "True", "false": "False", "null": "None", "none": "None"}


@attrs.frozen
class _Value:
    """A translated value: how to read it from a record, and what is known of it beforehand."""

    read: Read
    text: str
    kind: str | None = None
    """None: known only once there is a record."""
    literal: Any = None


def _and_operands(tree: ast.expr) -> Iterable[ast.expr]:
    if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And):
        for operand in tree.values:
            yield from _and_operands(operand)
    else:
        yield tree


def _translate(tree: ast.expr, source: _Source) -> Clause:
    translator = _Translator(ast.unparse(tree), source)
    holds = translator.condition(tree)
    return Clause(translator.clause, tuple(translator.paths), tuple(translator.thresholds(tree)), holds)


class _Translator:
    """Turns the tree of one clause into functions of a record."""

    def __init__(self, clause: str, source: _Source) -> None:
        self.clause = clause
        self.source = source
        self.paths: dict[Path, None] = {}

    # Conditions. `negated` carries `not` inward to the comparisons, where NaN fails either way.

    def condition(self, node: ast.expr, negated: bool = False) -> Check:
        match node:
            case ast.BoolOp(op=op, values=operands):
                checks = [self.condition(operand, negated) for operand in operands]
                return _any(checks) if isinstance(op, ast.Or) != negated else _all(checks)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self.condition(operand, not negated)
            case ast.Compare():
                checks = [self._comparison(*pair, negated) for pair in _pairs(node)]
                return _any(checks) if negated else _all(checks)
            case ast.Call(func=ast.Name(id="contains")):
                self._refuse_unless(len(node.args) == 2, node, "write contains(x, part)")
                return self._membership(node.args[1], node.args[0], negated)
            case _:
                return self._truth(node, negated)

    def _truth(self, node: ast.expr, negated: bool) -> Check:
        value = self.value(node, condition=True)
        if value.kind not in (BOOL, None):
            raise self.source.at(node, f"{value.text} is {value.kind}, not a condition; compare it with something")
        read, wrong = value.read, self._wrong

        def check(record: Record) -> bool:
            truth = read(record)
            if truth is True or truth is False:
                return truth is not negated
            raise wrong(f"{_described(value, truth)} is not True or False")

        return check

    def _comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr, negated: bool) -> Check:
        if isinstance(op, ast.Is | ast.IsNot):
            return self._nullness(left, right, isinstance(op, ast.IsNot) != negated)
        if isinstance(op, ast.In | ast.NotIn):
            return self._membership(left, right, isinstance(op, ast.NotIn) != negated)
        for side in (left, right):
            if isinstance(side, ast.Constant) and side.value is None:
                raise self.source.at(side, "write `is None` or `is not None`")
        symbol = _NEGATED[_SYMBOLS[type(op)]] if negated else _SYMBOLS[type(op)]
        a, b = self.value(left), self.value(right)
        if a.literal is not None and b.literal is None:
            # The literal to the right, where `_ordinary` has a short way for it.
            a, b, symbol = b, a, _MIRRORED[symbol]
        fit = COMPARABLE if symbol in ("==", "!=") else ORDERED
        for value, other in ((a, b), (b, a)):
            if value.kind is not None and value.kind not in fit:
                raise self.source.at(left, f"{value.text} is {value.kind}, which {symbol} does not compare")
            if value.kind is not None and other.kind not in (None, value.kind):
                raise self.source.at(left, f"{value.text} is {value.kind}, but {other.text} is {other.kind}")
        return self._ordinary(a, _COMPARE[symbol], b, fit)

    def _ordinary(self, a: _Value, compare: Callable[[Any, Any], bool], b: _Value, fit: frozenset[str]) -> Check:
        read_a, read_b, wrong = a.read, b.read, self._wrong

        def check(record: Record) -> bool:
            x, y = read_a(record), read_b(record)
            kind = _kind(x)
            if kind in fit and kind == _kind(y):
                return bool(compare(x, y))
            raise wrong(f"cannot compare {_described(a, x)} with {_described(b, y)}")

        if b.literal is None or b.kind != NUMBER:
            return check
        limit = b.literal

        def check_limit(record: Record) -> bool:
            # The usual clause, a number against a limit, by its short way.
            x = read_a(record)
            return compare(x, limit) if type(x) is float or type(x) is int else check(record)

        return check_limit

    def _nullness(self, left: ast.expr, right: ast.expr, negated: bool) -> Check:
        if not (isinstance(right, ast.Constant) and right.value is None):
            self._path(right)  # which knows what to say to `is null`
            raise self.source.at(right, "`is` only goes with None; write == to compare")
        path = self._path(left)
        if path is None:
            raise self.source.at(left, "only a column can be None")
        self.paths[path] = None
        return lambda record: (self._descend(record, path) is None) is not negated

    def _membership(self, left: ast.expr, right: ast.expr, negated: bool) -> Check:
        member = self.value(left)
        if isinstance(right, ast.List | ast.Tuple):
            return self._among(member, left, right, negated)
        container = self.value(right)
        if container.kind not in (TEXT, LIST, None):
            raise self.source.at(right, f"{container.text} is {container.kind}; nothing can be in it")
        if container.kind == TEXT and member.kind not in (TEXT, None):
            raise self.source.at(left, f"{member.text} is {member.kind}; only text can be in text")
        read_member, read_container, wrong = member.read, container.read, self._wrong

        def check(record: Record) -> bool:
            x, whole = read_member(record), read_container(record)
            kind = _kind(whole)
            if kind is not LIST and not (kind is TEXT and _kind(x) is TEXT):
                raise wrong(f"cannot look for {_described(member, x)} in {_described(container, whole)}")
            return x == x and (x in cast("Container[Any]", whole)) is not negated

        return check

    def _among(self, member: _Value, left: ast.expr, right: ast.List | ast.Tuple, negated: bool) -> Check:
        choices = [self._literal(item) for item in right.elts]
        self._refuse_unless(bool(choices), right, "nothing is in an empty list")
        kinds = frozenset(_kind(choice) for choice in choices)
        if member.kind is not None and member.kind not in kinds:
            raise self.source.at(
                left, f"{member.text} is {member.kind}, but the list has only {' and '.join(sorted(kinds))}"
            )
        read, wrong, among = member.read, self._wrong, frozenset(choices)

        def check(record: Record) -> bool:
            x = read(record)
            if _kind(x) not in kinds:
                raise wrong(f"{_described(member, x)} is not {' or '.join(sorted(kinds))}, as the list has")
            return x == x and (x in among) is not negated

        return check

    # Values.

    def value(self, node: ast.expr, condition: bool = False) -> _Value:
        """Translate a value. `condition`: a condition is what is wanted here, so do not refuse functions that are."""
        path = self._path(node)
        if path is not None:
            return self._column(path)
        match node:
            case ast.Constant() | ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float())):
                literal = self._literal(node)
                return _Value(lambda _: literal, ast.unparse(node), _kind(literal), literal=literal)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._computed(node, operator.neg, (operand,), (_A_NUMBER,), NUMBER)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return self._computed(node, _ARITHMETIC[type(op)], (left, right), (_A_NUMBER, _A_NUMBER), NUMBER)
            case ast.Call():
                return self._call(node, condition)
            case _:
                raise self._refusal(node)

    def _call(self, node: ast.Call, condition: bool) -> _Value:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        function = _FUNCTIONS.get(name or "")
        if name == "contains" or (function is not None and function.gives == BOOL and not condition):
            raise self.source.at(node, f"{name}(…) is a condition; it cannot be compared or computed with")
        if name is None or function is None:
            near = difflib.get_close_matches(name or "", _FUNCTION_NAMES, n=1)
            advice = f"; did you mean {near[0]}?" if near else ""
            raise self.source.at(node, f"there is no function `{_excerpt(node.func)}`{advice}", _ALLOWED)
        arguments, call = node.args, function.call
        if name == "round" and len(arguments) == 2:
            # Only a small literal: rounding to -10**9 digits would compute 10**(10**9).
            *arguments, digits = arguments
            places = digits.value if isinstance(digits, ast.Constant) else None
            self._refuse_unless(type(places) is int and places <= 15, digits, f"write {function.usage}")
            call = functools.partial(_rounded, digits=places)
        takes = function.takes
        if function.variadic and len(arguments) > len(takes):
            takes = takes + takes[-1:] * (len(arguments) - len(takes))
        self._refuse_unless(len(arguments) == len(takes), node, f"write {function.usage}")
        return self._computed(node, call, arguments, takes, function.gives)

    def _computed(
        self,
        node: ast.expr,
        function: Callable[..., Any],
        operands: Iterable[ast.expr],
        takes: tuple[frozenset[str], ...],
        gives: str,
    ) -> _Value:
        text = ast.unparse(node)
        values = [self.value(operand) for operand in operands]
        for value, kinds in zip(values, takes, strict=True):
            if value.kind is not None and value.kind not in kinds:
                raise self.source.at(node, f"{value.text} is {value.kind}; {text} needs {' or '.join(sorted(kinds))}")
        inputs = tuple((value, value.read, kinds) for value, kinds in zip(values, takes, strict=True))
        wrong = self._wrong

        def read(record: Record) -> Any:
            arguments: list[Any] = []
            for value, read_argument, kinds in inputs:
                argument = read_argument(record)
                if _kind(argument) not in kinds:
                    raise wrong(f"{_described(value, argument)} is not {' or '.join(sorted(kinds))} for {text}")
                arguments.append(argument)
            try:
                return function(*arguments)
            except (ZeroDivisionError, OverflowError) as error:
                operands = ", ".join(_described(v, a) for (v, _, _), a in zip(inputs, arguments, strict=True))
                raise wrong(f"{text} has no value for {operands} ({error})") from None

        return _Value(read, text, gives)

    def _column(self, path: Path) -> _Value:
        text = ".".join(path)
        self.paths[path] = None
        clause, name = self.clause, path[0]

        def read(record: Record) -> Any:
            value = record.get(name)
            if value is None:
                raise RecordError("missing_column", f"column {text!r} is missing or null, in `{clause}`")
            return value

        def read_nested(record: Record) -> Any:
            value = self._descend(record, path)
            if value is None:
                raise RecordError("missing_column", f"column {text!r} is missing or null, in `{clause}`")
            return value

        return _Value(read if len(path) == 1 else read_nested, text)

    def _descend(self, record: Record, path: Path) -> Any:
        value: Any = record
        for depth, name in enumerate(path):
            if not isinstance(value, Mapping):
                raise self._wrong(f"{'.'.join(path[:depth])} = {_shown(value)} is {_kind(value)}, not a mapping")
            value = cast(Record, value).get(name)
            if value is None:
                return None
        return value

    def _path(self, node: ast.expr) -> Path | None:
        """The column that the node names, if it names one."""
        match node:
            case ast.Name(id=name):
                path: Path | None = (name,)
            case ast.Attribute(value=outer, attr=name):
                outer_path = self._path(outer)
                path = None if outer_path is None else (*outer_path, name)
            case ast.Call(func=ast.Name(id="column")):
                name = node.args[0].value if len(node.args) == 1 and isinstance(node.args[0], ast.Constant) else None
                if not isinstance(name, str):
                    raise self.source.at(node, "write column('name')")
                return (name,)
            case _:
                return None
        if name.startswith("__") and name.endswith("__"):
            raise self.source.at(node, f"{name} cannot name a column")
        if path == (name,) and name.lower() in _CONSTANTS:
            raise self.source.at(node, f"write {_CONSTANTS[name.lower()]}")
        return path

    def _literal(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as literal):
                return literal
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as literal)) if (
                literal is not True and literal is not False
            ):
                return -literal
            case ast.Constant(value=None):
                raise self.source.at(node, "None goes only with `is` and `is not`")
            case ast.Constant():
                raise self.source.at(node, f"`{_excerpt(node)}` is not allowed", _ALLOWED)
            case _:
                raise self.source.at(node, "write only numbers, 'text', True and False in a list after `in`")

    def thresholds(self, node: ast.expr) -> Iterable[Threshold]:
        negated = False
        while isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            node, negated = node.operand, not negated
        if not isinstance(node, ast.Compare) or (negated and len(node.ops) > 1):
            return
        for left, op, right in _pairs(node):
            symbol = _SYMBOLS.get(type(op))
            if symbol is None:
                continue
            for column, limit, seen in ((left, right, symbol), (right, left, _MIRRORED[symbol])):
                path = self._path(column)
                if path is not None and isinstance(limit, ast.Constant | ast.UnaryOp):
                    value = self.value(limit).literal
                    if _kind(value) == NUMBER:
                        yield Threshold(".".join(path), _NEGATED[seen] if negated else seen, value)

    # Errors.

    def _wrong(self, message: str) -> RecordError:
        return RecordError("bad_value", f"{message}, in `{self.clause}`")

    def _refuse_unless(self, fits: bool, node: ast.expr, problem: str) -> None:
        if not fits:
            raise self.source.at(node, problem)

    def _refusal(self, node: ast.expr) -> PlanError:
        if isinstance(node, ast.Attribute):
            return self.source.at(node, "only a column has parts, such as meta.snr")
        if isinstance(node, ast.List | ast.Tuple):
            return self.source.at(node, "a list goes only after `in`; conditions are joined by and")
        return self.source.at(node, "a condition cannot be compared or computed with; join conditions by and, or, not")


def _pairs(node: ast.Compare) -> Iterable[tuple[ast.expr, ast.cmpop, ast.expr]]:
    """A chain as its comparisons: `0.5 <= duration <= 30` is `0.5 <= duration`, `duration <= 30`.

    What stands in the middle is read twice, which costs little and changes nothing, for values have no side effects
    (and cannot contain chains, so that it stays at twice).
    """
    return zip([node.left, *node.comparators], node.ops, node.comparators, strict=False)


def _all(checks: list[Check]) -> Check:
    if len(checks) == 1:
        return checks[0]

    def check(record: Record) -> bool:
        for each in checks:  # noqa: SIM110  (all() over a generator takes twice as long)
            if not each(record):
                return False
        return True

    return check


def _any(checks: list[Check]) -> Check:
    if len(checks) == 1:
        return checks[0]

    def check(record: Record) -> bool:
        for each in checks:  # noqa: SIM110
            if each(record):
                return True
        return False

    return check


def _peek(record: Record, path: Path) -> Any:
    value: Any = record
    for name in path:
        value = cast(Record, value).get(name) if isinstance(value, Mapping) else None
    return value


def _described(value: _Value, found: Any) -> str:
    shown = _shown(found)
    return f"{shown if value.literal is not None else f'{value.text} = {shown}'} ({_kind(found)})"


def _excerpt(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 40 else f"{text[:39]}…"


_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlong = 40


def _shown(value: Any) -> str:
    if type(value) is float:
        return repr(value)  # the usual case, by a short way
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python does not print whole numbers of more than 4300 digits
        return f"a very long {type(value).__name__}"
