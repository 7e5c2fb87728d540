"""A whole expression: it is made from its text, and decides which records to keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from curate.expressions.clause import Clause, Threshold
from curate.expressions.source import Source
from curate.expressions.translator import translate, translate_value
from curate.expressions.values import Record


@attrs.frozen
class Expression:
    """A condition over the columns of a record, checked when it is made; two with the same text are equal.

    It is pickled as its text, since its functions, made at run time, cannot be pickled. Nothing in it changes, so it
    is its own copy.

    Args:
        text: the condition, from which the other attributes are derived.
        columns: the columns that are read; for a nested one, such as `meta.snr`, the outermost.
        required: the columns that a record must have, because the text does not test them with `is None`.

    Raises:
        PlanError: the text is not a valid expression; the message shows the place and the allowed forms.
    """

    text: str
    clauses: tuple[Clause, ...] = attrs.field(init=False, repr=False, eq=False)
    columns: frozenset[str] = attrs.field(init=False, repr=False, eq=False)
    required: frozenset[str] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        clauses = translate(Source(self.text))
        # attrs' documented way to set derived attributes of a frozen instance.
        columns = frozenset(path[0] for clause in clauses for path in clause.paths)
        optional = {path[0] for clause in clauses for path in clause.optional}
        object.__setattr__(self, "clauses", clauses)
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "required", columns - optional)

    def __reduce__(self) -> tuple[Callable[[str], Expression], tuple[str]]:
        return Expression, (self.text,)

    def __copy__(self) -> Expression:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> Expression:
        return self

    def __str__(self) -> str:
        return self.text

    def failed_clause(self, record: Record) -> str | None:
        """Return None for a record to keep; otherwise the first clause that it fails, with its values.

        Later clauses are not evaluated, so they cannot raise.

        Raises:
            RecordError: `missing_column` or `bad_value`, naming the column and the clause.
        """
        for clause in self.clauses:
            if not clause.holds(record):
                return clause.reason(record)
        return None

    def thresholds(self) -> list[Threshold]:
        """Return the thresholds of all clauses that only compare columns with numbers, for drawing in histograms."""
        return [threshold for clause in self.clauses for threshold in clause.thresholds]


@attrs.frozen
class ValueExpression:
    """A value computed from the columns of a record, checked when it is made; two with the same text are equal.

    It is pickled as its text, as `Expression` is.

    Args:
        text: a value, a condition (True or False), None, or `a if condition else b` of these. A column by itself is
            copied, null included; anywhere else null is an error of the record.
        columns: the columns that are read; for a nested one the outermost.
        required: the columns that a record must have, because the text does not test them with `is None`.

    Raises:
        PlanError: the text is not a valid expression; the message shows the place and the allowed forms.
    """

    text: str
    columns: frozenset[str] = attrs.field(init=False, repr=False, eq=False)
    required: frozenset[str] = attrs.field(init=False, repr=False, eq=False)
    _read: Callable[[Record], Any] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        read, paths, tested = translate_value(Source(self.text, what="value expression", choices=True))
        columns = frozenset(path[0] for path in paths)
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "required", columns - {path[0] for path in tested})
        object.__setattr__(self, "_read", read)

    def __reduce__(self) -> tuple[Callable[[str], ValueExpression], tuple[str]]:
        return ValueExpression, (self.text,)

    def __deepcopy__(self, _: dict[int, Any]) -> ValueExpression:
        return self

    def value(self, record: Record) -> Any:
        """Return the value for a record.

        Raises:
            RecordError: `missing_column` or `bad_value`, naming the column and the expression.
        """
        return self._read(record)
