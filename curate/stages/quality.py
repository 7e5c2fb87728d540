"""Filters: by an expression over the columns, and by the value of one column."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from curate.records import Record
from curate.stage import RecordStage, Reject
from curate.stages.expression import Expression


@dataclass
class QualityFilter(RecordStage):
    """Keeps the records for which an expression is true, and says for each of the others which clause it failed.

    Args:
        expression: such as `wer <= 0.3 and 0.5 <= duration <= 30`; the clauses are what stands between the `and`s.
    """

    expression: str

    cardinality = "filters"

    def __post_init__(self) -> None:
        self._expression = Expression.parse(self.expression)

    def reads(self) -> Collection[str]:
        return self._expression.columns

    def writes(self) -> Collection[str]:
        return ()

    def process_record(self, record: Record) -> Record | Reject:
        failed = self._expression.failed_clause(record)
        return record if failed is None else Reject(failed)


@dataclass
class ValueFilter(RecordStage):
    """Keeps the records whose column compares with a value.

    Args:
        column: the column.
        operator: `==`, `!=`, `<`, `<=`, `>`, `>=`, `in` or `not in`.
        value: what it is compared with; a list for `in` and `not in`.
    """

    column: str
    operator: str
    value: Any

    cardinality = "filters"

    def __post_init__(self) -> None:
        self._expression = Expression.parse(f"column({self.column!r}) {self.operator} {self.value!r}")

    def reads(self) -> Collection[str]:
        return self._expression.columns

    def writes(self) -> Collection[str]:
        return ()

    def process_record(self, record: Record) -> Record | Reject:
        failed = self._expression.failed_clause(record)
        return record if failed is None else Reject(failed)
