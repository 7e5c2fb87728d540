"""The clauses of an expression, joined by `and`, each with the reason for which a record fails it."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from curate.expressions.values import Path, Record, look_up, short_repr


@attrs.frozen
class Threshold:
    """A comparison of a column with a number, column first: `0.5 <= duration` is `Threshold("duration", ">=", 0.5)`."""

    column: str
    operator: str
    value: float


@attrs.frozen
class Clause:
    """One of the conditions that the expression joins with `and`.

    Args:
        text: its canonical source: single spaces, single quotes, no redundant parentheses.
        paths: the columns that it reads, in the order of their appearance, each as its names from the outermost inward.
        optional: the columns that it tests with `is None`, and which records may therefore lack.
        thresholds: its comparisons of columns with numbers.
        holds: returns whether a record satisfies it. Raises RecordError as `Expression.failed_clause` does.
    """

    text: str
    paths: tuple[Path, ...]
    optional: frozenset[Path]
    thresholds: tuple[Threshold, ...]
    holds: Callable[[Record], bool] = attrs.field(repr=False, eq=False)

    def reason(self, record: Record) -> str:
        """Return the clause with the record's values, as in `wer <= 0.3 (wer = 0.52)`."""
        values = ", ".join([f"{'.'.join(path)} = {short_repr(look_up(record, path))}" for path in self.paths])
        return f"{self.text} ({values})" if values else self.text
