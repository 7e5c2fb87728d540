"""The translator of expressions: it turns a syntax tree into functions of a record, one for each clause."""

from __future__ import annotations

import ast
import functools
import keyword
import operator
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias, cast

import attrs

from curate.errors import RecordError
from curate.expressions.clause import Clause, Threshold
from curate.expressions.source import ALLOWED, Source
from curate.expressions.values import (
    ARITHMETIC,
    BOOL,
    COLUMN_KINDS,
    COMPARISONS,
    FUNCTION_NAMES,
    FUNCTIONS,
    LIST,
    NUMBER,
    NUMERIC,
    SYMBOLS,
    TEXT,
    Comparison,
    Path,
    Record,
    kind_of,
    rounded,
    short_repr,
)
from curate.suggest import nearest

_Read: TypeAlias = Callable[[Record], Any]
_Check: TypeAlias = Callable[[Record], bool]

_CONSTANTS: Final = {"true": "True", "false": "False", "null": "None", "none": "None"}


def column_source(name: str) -> str:
    """Return the source that names a column: the bare name, or `column('…')` where that would mean something else."""
    plain = (
        re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) and not keyword.iskeyword(name) and name.lower() not in _CONSTANTS
    )
    return name if plain else f"column({name!r})"


def translate(source: Source) -> tuple[Clause, ...]:
    """Return the clauses of an expression: the operands of its outer `and`s, in any grouping.

    Raises:
        PlanError: the expression is not a condition; the message shows the place and the allowed forms.
    """
    return tuple(_clause(operand, source) for operand in _and_operands(source.parse()))


def translate_value(source: Source) -> tuple[Callable[[Record], Any], tuple[Path, ...], frozenset[Path]]:
    """Return the function that computes a value for a record, the columns that it reads, and those it tests for None.

    Raises:
        PlanError: the expression is neither a value nor a condition.
    """
    tree = source.parse()
    translator = _Translator(ast.unparse(tree), source)
    return translator.chosen(tree), tuple(translator.paths), frozenset(translator.optional)


def _and_operands(tree: ast.expr) -> Iterator[ast.expr]:
    if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And):
        for operand in tree.values:
            yield from _and_operands(operand)
    else:
        yield tree


def _clause(tree: ast.expr, source: Source) -> Clause:
    translator = _Translator(ast.unparse(tree), source)
    holds = translator.condition(tree)
    return Clause(
        text=translator.clause,
        paths=tuple(translator.paths),
        optional=frozenset(translator.optional),
        thresholds=tuple(translator.thresholds(tree)),
        holds=holds,
    )


@attrs.frozen
class _Value:
    """A translated value: the function that reads it from a record, with its static type if that is known.

    Args:
        read: returns the value for a record.
        text: its source.
        kind: its kind; None: known only for a record.
        literal: the value itself, if it is a literal.
    """

    read: _Read
    text: str
    kind: str | None = None
    literal: Any = None

    def describe(self, found: Any) -> str:
        """Return a description of the value found in a record, for messages: `wer = 'x' (text)`."""
        name = "" if self.literal is not None else f"{self.text} = "
        return f"{name}{short_repr(found)} ({kind_of(found)})"


class _Translator:
    """Translates one clause, and collects the columns that it reads."""

    def __init__(self, clause: str, source: Source) -> None:
        self.clause = clause
        self.source = source
        self.paths: dict[Path, None] = {}
        self.optional: set[Path] = set()

    # Conditions. `negated` moves `not` inward to the comparisons, which NaN fails in either form. Negating the result
    # of a comparison instead would keep a record whose value is NaN under `not wer > 0.3`.

    def condition(self, node: ast.expr, negated: bool = False) -> _Check:
        match node:
            case ast.BoolOp(op=op, values=operands):
                checks = [self.condition(operand, negated) for operand in operands]
                return _joined(checks, until=isinstance(op, ast.Or) != negated)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self.condition(operand, not negated)
            case ast.Compare():
                checks = [self._comparison(*pair, negated) for pair in _pairs(node)]
                return _joined(checks, until=negated)
            case ast.Call(func=ast.Name(id="contains")):
                self._refuse_unless(len(node.args) == 2, node, "write contains(x, part)")
                return self._membership(node.args[1], node.args[0], negated)
            case _:
                return self._truth(node, negated)

    def _truth(self, node: ast.expr, negated: bool) -> _Check:
        value = self.value(node, condition=True)
        if value.kind not in (BOOL, None):
            raise self.source.at(node, f"{value.text} is {value.kind}, not a condition; compare it with something")
        read, wrong = value.read, self._wrong

        def check(record: Record) -> bool:
            truth = read(record)
            if truth is True or truth is False:
                return truth is not negated
            raise wrong(f"{value.describe(truth)} is not True or False")

        return check

    def _comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr, negated: bool) -> _Check:
        if isinstance(op, ast.Is | ast.IsNot):
            return self._nullness(left, right, isinstance(op, ast.IsNot) != negated)
        if isinstance(op, ast.In | ast.NotIn):
            return self._membership(left, right, isinstance(op, ast.NotIn) != negated)
        for side in (left, right):
            if isinstance(side, ast.Constant) and side.value is None:
                raise self.source.at(side, "write `is None` or `is not None`")
        comparison = COMPARISONS[SYMBOLS[type(op)]]
        if negated:
            comparison = COMPARISONS[comparison.negated]
        a, b = self.value(left), self.value(right)
        if a.literal is not None and b.literal is None:  # a literal on the right has a fast path
            a, b, comparison = b, a, COMPARISONS[comparison.mirrored]
        for value, other in ((a, b), (b, a)):
            if value.kind is not None and value.kind not in comparison.compares:
                raise self.source.at(left, f"{value.text} is {value.kind}, which {comparison.symbol} does not compare")
            if value.kind is not None and other.kind not in (None, value.kind):
                raise self.source.at(left, f"{value.text} is {value.kind}, but {other.text} is {other.kind}")
        return self._compared(a, comparison, b)

    def _compared(self, a: _Value, comparison: Comparison, b: _Value) -> _Check:
        read_a, read_b, wrong = a.read, b.read, self._wrong
        holds, kinds, limit = comparison.holds, comparison.compares, b.literal

        def check(record: Record) -> bool:
            x, y = read_a(record), read_b(record)
            kind = kind_of(x)
            if kind in kinds and kind == kind_of(y):
                return bool(holds(x, y))
            raise wrong(f"cannot compare {a.describe(x)} with {b.describe(y)}")

        def check_limit(record: Record) -> bool:
            # The fast path of the most frequent clause, a number against a limit.
            x = read_a(record)
            return holds(x, limit) if type(x) is float or type(x) is int else check(record)

        return check_limit if limit is not None and b.kind == NUMBER else check

    def _nullness(self, left: ast.expr, right: ast.expr, negated: bool) -> _Check:
        if not (isinstance(right, ast.Constant) and right.value is None):
            self._path(right)  # raises a better message for `is null`
            raise self.source.at(right, "`is` is only allowed before None; write == to compare")
        path = self._path(left)
        if path is None:
            raise self.source.at(left, "only a column can be None")
        self.paths[path] = None
        self.optional.add(path)
        return lambda record: (self._descend(record, path) is None) is not negated

    def _membership(self, left: ast.expr, right: ast.expr, negated: bool) -> _Check:
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
            kind = kind_of(whole)
            if kind is not LIST and not (kind is TEXT and kind_of(x) is TEXT):
                raise wrong(f"cannot look for {member.describe(x)} in {container.describe(whole)}")
            if x != x:
                return False
            found = x in cast("Container[Any]", whole)
            if found and kind is LIST and isinstance(x, bool | int | float):  # Python alone takes `True` for 1
                found = any(kind_of(each) is kind_of(x) and each == x for each in cast("Iterable[Any]", whole))
            return found is not negated

        return check

    def _among(self, member: _Value, left: ast.expr, right: ast.List | ast.Tuple, negated: bool) -> _Check:
        choices = [self._literal(item) for item in right.elts]
        self._refuse_unless(bool(choices), right, "nothing is in an empty list")
        kinds = frozenset(kind_of(choice) for choice in choices)
        if member.kind is not None and member.kind not in kinds:
            only = " and ".join(sorted(kinds))
            raise self.source.at(left, f"{member.text} is {member.kind}, but the list has only {only}")
        read, wrong, among = member.read, self._wrong, frozenset((kind_of(choice), choice) for choice in choices)

        def check(record: Record) -> bool:
            x = read(record)
            kind = kind_of(x)
            if kind not in kinds:
                raise wrong(f"{member.describe(x)} is not {' or '.join(sorted(kinds))}, as the list has")
            return x == x and ((kind, x) in among) is not negated

        return check

    # Values.

    def chosen(self, node: ast.expr) -> _Read:
        """Translate what a column is set to: a value, a condition, None, or a choice among these."""
        match node:
            case ast.IfExp(test=test, body=body, orelse=orelse):
                condition, first, second = self.condition(test), self.chosen(body), self.chosen(orelse)
                return lambda record: first(record) if condition(record) else second(record)
            case ast.Constant(value=None):
                return lambda _: None
            case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                return self.condition(node)
            case ast.Call(func=ast.Name(id=name)) if name == "contains" or _is_condition(name):
                return self.condition(node)
            case _:
                path = self._path(node)
                return self.value(node).read if path is None else self._copied(path)

    def _copied(self, path: Path) -> _Read:
        """Translate a column that is copied: unlike in a condition, null is a value."""
        self.paths[path] = None
        text, outer = ".".join(path), path[0]

        def read(record: Record) -> Any:
            if outer not in record:
                raise RecordError("missing_column", f"column {text!r} is missing, in `{self.clause}`")
            return self._descend(record, path)

        return read

    def value(self, node: ast.expr, condition: bool = False) -> _Value:
        """Translate a value. `condition`: a condition is expected here, so accept functions that are conditions."""
        path = self._path(node)
        if path is not None:
            return self._column(path)
        match node:
            case ast.Constant() | ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float())):
                literal = self._literal(node)
                return _Value(lambda _: literal, ast.unparse(node), kind_of(literal), literal=literal)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._computed(node, operator.neg, (operand,), (NUMERIC,), NUMBER)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
                return self._computed(node, ARITHMETIC[type(op)], (left, right), (NUMERIC, NUMERIC), NUMBER)
            case ast.Call():
                return self._call(node, condition)
            case ast.Attribute():
                raise self.source.at(node, "only a column has parts, such as meta.snr")
            case ast.List() | ast.Tuple():
                raise self.source.at(node, "a list is only allowed after `in`; conditions are joined by and")
            case _:
                advice = "a condition cannot be compared or computed with; join conditions by and, or, not"
                raise self.source.at(node, advice)

    def _call(self, node: ast.Call, condition: bool) -> _Value:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        function = FUNCTIONS.get(name)
        if name == "contains" or (function is not None and function.gives == BOOL and not condition):
            raise self.source.at(node, f"{name}(…) is a condition; it cannot be compared or computed with")
        if function is None:
            near = nearest(name, FUNCTION_NAMES)
            advice = f": did you mean {near!r}?" if near else ""
            raise self.source.at(node, f"unknown function `{_excerpt(node.func)}`{advice}", ALLOWED)
        arguments, call, takes = node.args, function.call, function.takes
        if name == "round" and len(arguments) == 2:
            # Only a small literal is allowed: rounding to -10**9 digits would compute 10**(10**9).
            *arguments, digits = arguments
            places = digits.value if isinstance(digits, ast.Constant) else None
            self._refuse_unless(type(places) is int and places <= 15, digits, f"write {function.usage}")
            call = functools.partial(rounded, digits=places)
        if function.variadic:
            takes += takes[-1:] * (len(arguments) - len(takes))
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
        inputs = list(zip(map(self.value, operands), takes, strict=True))
        for value, kinds in inputs:
            if value.kind is not None and value.kind not in kinds:
                raise self.source.at(node, f"{value.text} is {value.kind}; {text} needs {' or '.join(sorted(kinds))}")
        wrong = self._wrong

        def read(record: Record) -> Any:
            arguments: list[Any] = []
            for value, kinds in inputs:
                argument = value.read(record)
                if kind_of(argument) not in kinds:
                    raise wrong(f"{value.describe(argument)} is not {' or '.join(sorted(kinds))} for {text}")
                arguments.append(argument)
            try:
                return function(*arguments)
            except (ZeroDivisionError, OverflowError, ValueError) as error:
                found = ", ".join(value.describe(each) for (value, _), each in zip(inputs, arguments, strict=True))
                raise wrong(f"{text} has no value for {found} ({error})") from None

        return _Value(read, text, gives)

    def _column(self, path: Path) -> _Value:
        self.paths[path] = None
        text, name, nested = ".".join(path), path[0], len(path) > 1

        def read(record: Record) -> Any:
            value = self._descend(record, path) if nested else record.get(name)
            if value is None:
                raise RecordError("missing_column", f"column {text!r} is missing or null, in `{self.clause}`")
            return value

        return _Value(read, text, None if nested else COLUMN_KINDS.get(name))

    def _descend(self, record: Record, path: Path) -> Any:
        """Return the value of a column, None if it is missing; raise where a part of the path is not a mapping."""
        value: Any = record
        for depth, name in enumerate(path):
            if not isinstance(value, Mapping):
                raise self._wrong(f"{'.'.join(path[:depth])} = {short_repr(value)} is {kind_of(value)}, not a mapping")
            value = cast(Record, value).get(name)
            if value is None:
                return None
        return value

    def _path(self, node: ast.expr) -> Path | None:
        """Return the column that the node names, or None."""
        match node:
            case ast.Name(id=name):
                path: Path | None = (name,)
            case ast.Attribute(value=outer, attr=name):
                outer_path = self._path(outer)
                path = None if outer_path is None else (*outer_path, name)
            case ast.Call(func=ast.Name(id="column"), args=[ast.Constant(value=str() as name)]):
                return (name,)
            case ast.Call(func=ast.Name(id="column")):
                raise self.source.at(node, "write column('name')")
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
                raise self.source.at(node, "None is only allowed after `is` and `is not`")
            case ast.Constant():
                raise self.source.at(node, f"`{_excerpt(node)}` is not allowed", ALLOWED)
            case _:
                raise self.source.at(node, "write only numbers, 'text', True and False in a list after `in`")

    def thresholds(self, node: ast.expr) -> Iterator[Threshold]:
        """Yield the thresholds of the clause, if it only compares columns with numbers."""
        negated = False
        while isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            node, negated = node.operand, not negated
        if not isinstance(node, ast.Compare) or (negated and len(node.ops) > 1):
            return
        for left, op, right in _pairs(node):
            if type(op) not in SYMBOLS:
                continue
            comparison = COMPARISONS[SYMBOLS[type(op)]]
            for column, limit, symbol in ((left, right, comparison.symbol), (right, left, comparison.mirrored)):
                path = self._path(column)
                if path is not None and isinstance(limit, ast.Constant | ast.UnaryOp):
                    value = self.value(limit).literal
                    if kind_of(value) == NUMBER:
                        demanded = COMPARISONS[symbol].negated if negated else symbol
                        yield Threshold(".".join(path), demanded, value)

    # Errors.

    def _wrong(self, message: str) -> RecordError:
        return RecordError("bad_value", f"{message}, in `{self.clause}`")

    def _refuse_unless(self, fits: bool, node: ast.expr, problem: str) -> None:
        if not fits:
            raise self.source.at(node, problem)


def _is_condition(name: str) -> bool:
    return name in FUNCTIONS and FUNCTIONS[name].gives == BOOL


def _pairs(node: ast.Compare) -> Iterable[tuple[ast.expr, ast.cmpop, ast.expr]]:
    """Return a chain as its comparisons: `0.5 <= duration <= 30` is `0.5 <= duration`, `duration <= 30`.

    The middle operand is read twice, which costs little and changes nothing: values have no side effects, and cannot
    contain chains themselves.
    """
    return zip([node.left, *node.comparators], node.ops, node.comparators, strict=False)


def _joined(checks: list[_Check], *, until: bool) -> _Check:
    """Return a check that stops at the first result equal to `until`: `and` for False, `or` for True."""
    if len(checks) == 1:
        return checks[0]

    def check(record: Record) -> bool:
        for each in checks:  # all() or any() over a generator takes twice as long
            if each(record) is until:
                return until
        return not until

    return check


def _excerpt(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 40 else f"{text[:39]}…"
