"""The quality filters: by an expression over the columns, and by the value of one column."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from curate.errors import PlanError
from curate.expressions import Expression, column_source
from curate.records import ID, Record
from curate.stage import RecordStage, Reject

_OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in", "not in")


class _ExpressionFilter(RecordStage):
    """The base class of expression filters: a record is filtered with the clause that it failed as the reason."""

    cardinality = "filters"
    _expression: Expression

    def reads(self) -> Collection[str]:
        return self._expression.required - {ID}  # every record has an id

    def writes(self) -> Collection[str]:
        return ()

    def process_record(self, record: Record) -> Record | Reject:
        failed = self._expression.failed_clause(record)
        return record if failed is None else Reject(failed)


@dataclass
class QualityFilter(_ExpressionFilter):
    """Keeps the records for which an expression is true; the reason of each filtered record is the clause it failed.

    Args:
        expression: such as `wer <= 0.3 and 0.5 <= duration <= 30`; its clauses are the parts between the `and`s.
            Use `is None` for a column that some records lack: `snr is None or snr > 10`.
    """

    expression: str

    def __post_init__(self) -> None:
        self._expression = Expression(self.expression)


@dataclass
class ValueFilter(_ExpressionFilter):
    """Keeps the records whose column compares with a value.

    Args:
        column: the column.
        operator: `==`, `!=`, `<`, `<=`, `>`, `>=`, `in` or `not in`.
        value: the value to compare with: a number, a string, True or False; a list of these for `in` and `not in`.
    """

    column: str
    operator: str
    value: Any

    def __post_init__(self) -> None:
        if self.operator not in _OPERATORS:
            raise PlanError(f"operator={self.operator!r} is not one of {', '.join(_OPERATORS)}")
        takes_list = self.operator in ("in", "not in")
        if takes_list != isinstance(self.value, list | tuple):
            wanted = "a list of values" if takes_list else "one value"
            raise PlanError(f"value={self.value!r:.80}: the operator {self.operator!r} takes {wanted}")
        values: list[Any] = list(self.value) if takes_list else [self.value]
        for value in values:
            if not _is_literal(value):
                raise PlanError(f"value={value!r:.80}: must be a number, a string, True or False")
        column = column_source(self.column)
        self._expression = Expression(f"{column} {self.operator} {values if takes_list else values[0]!r}")


def _is_literal(value: Any) -> bool:
    return math.isfinite(value) if isinstance(value, float) else isinstance(value, str | bool | int)
