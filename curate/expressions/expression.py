"""A whole expression: text in, verdicts on records out."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from curate.expressions.clause import Clause, Threshold
from curate.expressions.source import Source
from curate.expressions.translator import translate
from curate.expressions.values import Record


@attrs.frozen
class Expression:
    """A condition over the columns of a record, checked when it is made, equal to another of the same text.

    Pickled and copied as its text, since functions made at run time cannot travel.

    Args:
        text: the condition, from which the rest follows.
        columns: the record's columns that are read; of a nested one, `meta.snr`, the outermost.
        required: those of them that a record must have, because nothing in the text asks whether they are None.

    Raises:
        PlanError: it is no expression; the message shows the place and what is allowed.
    """

    text: str
    clauses: tuple[Clause, ...] = attrs.field(init=False, repr=False, eq=False)
    columns: frozenset[str] = attrs.field(init=False, repr=False, eq=False)
    required: frozenset[str] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        clauses = translate(Source(self.text))
        # attrs' own way to set what is derived on a frozen instance
        columns = frozenset(path[0] for clause in clauses for path in clause.paths)
        optional = {path[0] for clause in clauses for path in clause.optional}
        object.__setattr__(self, "clauses", clauses)
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "required", columns - optional)

    def __reduce__(self) -> tuple[Callable[[str], Expression], tuple[str]]:
        return Expression, (self.text,)

    def __str__(self) -> str:
        return self.text

    def failed_clause(self, record: Record) -> str | None:
        """Return None for a record to keep; otherwise the first clause it fails, with its values.

        Later clauses are not looked at, so what they would complain about does not matter.

        Raises:
            RecordError: `missing_column` or `bad_value`, naming the column and the clause.
        """
        for clause in self.clauses:
            if not clause.holds(record):
                return clause.reason(record)
        return None

    def thresholds(self) -> list[Threshold]:
        """Return what the clauses that only compare bare columns with numbers demand, to be drawn into histograms."""
        return [threshold for clause in self.clauses for threshold in clause.thresholds]
