"""Filter expressions as SQL, with exactly the outcome that curate's filter would give a record.

A record is kept, filtered, or fails (a column is missing, or of another type). So each condition becomes two: one for
which it is true and one for which it is false; where neither holds the record would fail, and it is not kept. `and` and
`or` stop as Python's do: in `a > 1 or b > 2` a record without `a` fails, whatever its `b` is.

What has no such translation (functions, arithmetic, columns of several types) is evaluated record by record.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from curate.errors import RecordError
from curate.expressions import Expression
from curate_explorer.index import Column, Index

_SYMBOLS: Final[Mapping[type[ast.cmpop], str]] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "=",
    ast.NotEq: "<>",
}
_MIRRORED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "<>": "<>"}


class _Untranslatable(Exception):
    """The expression has a form that only curate itself evaluates."""


@attrs.frozen
class _Outcome:
    """The SQL of where a condition is true, and where it is false; each with the parameters that it needs."""

    true: str
    false: str
    true_values: tuple[Any, ...] = ()
    false_values: tuple[Any, ...] = ()


def kept_sql(expression: Expression, index: Index) -> tuple[str, list[Any]]:
    """Return the condition of the rows that an expression keeps, with its parameters.

    An expression that SQL cannot say is evaluated for every row, once.
    """
    try:
        outcome = _Translation(index).condition(ast.parse(_one_line(expression.text), mode="eval").body)
    except _Untranslatable:
        key = ("expression", expression.text, index.rows)
        return index.matches.listed(key, lambda: _evaluated(expression, index)), []
    return outcome.true, list(outcome.true_values)


def _one_line(text: str) -> str:
    # The language lets lines end anywhere, and has no strings of several lines.
    return " ".join(text.splitlines()).strip()


def _evaluated(expression: Expression, index: Index) -> list[int]:
    columns = [column for column in index.columns if column.name in expression.columns]
    fields = "".join(f", {column.field}" for column in columns)
    kept: list[int] = []
    for batch in index.batches(f"SELECT row{fields} FROM rows"):
        for found in batch:
            record = {column.name: _value(column, found[column.field]) for column in columns}
            try:
                failed = expression.failed_clause({name: value for name, value in record.items() if value is not None})
            except RecordError:
                continue
            if failed is None:
                kept.append(found["row"])
    return kept


def _value(column: Column, value: Any) -> Any:
    return json.loads(value) if column.kind == "json" and value is not None else value


class _Translation:
    """Translates the tree of an expression that curate's own parser has accepted."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def condition(self, node: ast.expr) -> _Outcome:
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                return self._joined([self.condition(value) for value in values], both=True)
            case ast.BoolOp(op=ast.Or(), values=values):
                return self._joined([self.condition(value) for value in values], both=False)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self.condition(operand)
                return _Outcome(inner.false, inner.true, inner.false_values, inner.true_values)
            case ast.Compare():
                left, outcomes = node.left, list[_Outcome]()
                for op, right in zip(node.ops, node.comparators, strict=True):
                    outcomes.append(self._comparison(left, op, right))
                    left = right
                return self._joined(outcomes, both=True)
            case ast.Constant(value=bool() as truth):
                return _Outcome("TRUE", "FALSE") if truth else _Outcome("FALSE", "TRUE")
            case ast.Name(id=name):
                column = self._column(name)
                if column.kind != "boolean":
                    raise _Untranslatable
                return _Outcome(f"coalesce({column.field}, FALSE)", f"coalesce(NOT {column.field}, FALSE)")
            case _:
                raise _Untranslatable

    def _joined(self, outcomes: Sequence[_Outcome], *, both: bool) -> _Outcome:
        """Join conditions of which a later one is evaluated only where the earlier ones are true (or, false)."""
        joined = outcomes[0]
        for outcome in outcomes[1:]:
            first, second = joined, outcome
            if both:
                joined = _Outcome(
                    f"({first.true} AND {second.true})",
                    f"({first.false} OR ({first.true} AND {second.false}))",
                    (*first.true_values, *second.true_values),
                    (*first.false_values, *first.true_values, *second.false_values),
                )
            else:
                joined = _Outcome(
                    f"({first.true} OR ({first.false} AND {second.true}))",
                    f"({first.false} AND {second.false})",
                    (*first.true_values, *first.false_values, *second.true_values),
                    (*first.false_values, *second.false_values),
                )
        return joined

    def _comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> _Outcome:
        if isinstance(op, ast.Is | ast.IsNot) and isinstance(left, ast.Name):
            column = self._index.column(left.id)  # a column that no record has is None for all
            missing = "TRUE" if column is None else f"({column.field} IS NULL)"
            there = "FALSE" if column is None else f"({column.field} IS NOT NULL)"
            return _Outcome(missing, there) if isinstance(op, ast.Is) else _Outcome(there, missing)
        if isinstance(op, ast.In | ast.NotIn):
            return self._membership(left, right, negated=isinstance(op, ast.NotIn))
        symbol = _SYMBOLS.get(type(op))
        if symbol is None:
            raise _Untranslatable
        if isinstance(left, ast.Name) and isinstance(right, ast.Name):
            one, other = self._column(left.id), self._column(right.id)
            if not (one.numeric and other.numeric):
                raise _Untranslatable
            return _leaf(f"{one.field} {symbol} {other.field}", ())
        if isinstance(right, ast.Name):
            left, right, symbol = right, left, _MIRRORED[symbol]
        if not isinstance(left, ast.Name):
            raise _Untranslatable
        column, value = self._column(left.id), _literal(right)
        if not _fits(column, value) or (column.kind == "boolean" and symbol not in ("=", "<>")):
            raise _Untranslatable
        return _leaf(f"{column.field} {symbol} ?", (value,))

    def _membership(self, left: ast.expr, right: ast.expr, *, negated: bool) -> _Outcome:
        if not isinstance(left, ast.Name) or not isinstance(right, ast.List | ast.Tuple) or not right.elts:
            raise _Untranslatable
        column, values = self._column(left.id), tuple(_literal(each) for each in right.elts)
        if not all(_fits(column, value) for value in values):
            raise _Untranslatable
        marks = ", ".join("?" * len(values))
        return _leaf(f"{column.field} {'NOT ' if negated else ''}IN ({marks})", values)

    def _column(self, name: str) -> Column:
        column = self._index.column(name)
        if column is None or column.kind == "json":
            raise _Untranslatable
        return column


def _leaf(condition: str, values: tuple[Any, ...]) -> _Outcome:
    return _Outcome(f"coalesce({condition}, FALSE)", f"coalesce(NOT ({condition}), FALSE)", values, values)


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as literal):
            return literal
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as literal)):
            return -literal
        case _:
            raise _Untranslatable


def _fits(column: Column, value: Any) -> bool:
    """Return whether a value is of the column's type, and small enough for SQL to compare it as Python does."""
    if isinstance(value, bool):
        return column.kind == "boolean"
    if isinstance(value, str):
        return column.kind == "text"
    if column.kind == "integer" and isinstance(value, float):
        return abs(value) < 1 << 31  # DuckDB compares both as doubles, which are exact there
    return column.numeric and abs(value) < 1 << 53
