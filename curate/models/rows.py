"""Holds the rows that a model returns to what it declares: one row for each clip, with the declared columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

from curate.errors import InfrastructureError
from curate.models.model import Rows


class RowContract:
    """The columns of a model's rows.

    Args:
        model: the name of the model's class, for messages.
        required: columns that every row has.
        optional: further columns that a row may have.
    """

    def __init__(self, model: str, required: Collection[str], optional: Collection[str] = ()) -> None:
        self._model = model
        self._required = frozenset(required)
        self._allowed = self._required | frozenset(optional)

    def check(self, rows: Any, clips: int) -> Rows:
        """Return the rows of a batch, if they are what the model declares.

        Raises:
            InfrastructureError: they are not. That is a mistake of the model's code, so no record is to blame.
        """
        if isinstance(rows, str | bytes | Mapping) or not hasattr(rows, "__len__"):
            kind: str = type(cast("object", rows)).__name__
            raise self._breach(f"returned a {kind} for {clips} clips; return a list with one row each")
        given = cast("Rows", rows)
        if len(given) != clips:
            raise self._breach(f"returned {len(given)} rows for {clips} clips; return one row each, in their order")
        for row in given:
            if not isinstance(row, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] (third-party code)
                raise self._breach(f"returned a {type(row).__name__} as a row; return a mapping of columns to values")
            names = row.keys()
            if not names <= self._allowed:
                extra = min(map(str, names - self._allowed))
                raise self._breach(f"returned the column {extra!r}, which it does not declare; add it to `writes`")
            if not names >= self._required:
                lacking = min(self._required - names)
                raise self._breach(f"returned a row without the column {lacking!r} of `writes`; None means unknown")
        return given

    def _breach(self, what: str) -> InfrastructureError:
        return InfrastructureError(f"the model {self._model} {what}")
