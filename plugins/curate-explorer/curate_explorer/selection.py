"""Which rows a page shows: outcome and other facets, ranges, a search, an expression, a polygon, labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from curate.expressions import Expression
from curate_explorer.expression_sql import kept_sql
from curate_explorer.index import Column, Index
from curate_explorer.polygon import inside

FACETS: Final = ("outcome", "stage", "code")
"""The columns of the index itself by whose values rows are chosen."""
MAX_CORNERS: Final = 64


class SelectionError(ValueError):
    """A request names a column that is not there, or has a form that no page sends."""


@attrs.frozen
class Selection:
    """The rows to show, as SQL.

    Args:
        where: a condition.
        values: its parameters.
    """

    where: str
    values: tuple[Any, ...]


def selected(index: Index, wanted: Mapping[str, Any], labelled: Sequence[str] | None = None) -> Selection:
    """Return the rows that a request asks for.

    Args:
        index: the rows.
        wanted: any of `search` (a string), `facets` (column → values), `ranges` (column → [least, most], null: open),
            `expression`, `side` (`kept` or `left_out` by the expression), `polygon` (`x`, `y`: columns, `points`).
        labelled: the ids that `labels` asks for.

    Raises:
        SelectionError: a column is not there, or a value has another form.
        PlanError: the expression is not valid; the message shows the place.
    """
    parts: list[str] = []
    values: list[Any] = []
    search = str(wanted.get("search") or "").strip().lower()
    if search:
        found = "SELECT row FROM rows WHERE contains(search, ?)"
        parts.append(index.matches.selected(("search", search, index.rows), found, [search]))
    for name, chosen in dict(wanted.get("facets") or {}).items():
        condition, own = _one_of(index, name, list(chosen))
        parts.append(condition)
        values.extend(own)
    for name, (least, most) in dict(wanted.get("ranges") or {}).items():
        field = numeric_column(index, name).field
        for symbol, bound in ((">=", least), ("<=", most)):
            if bound is not None:
                parts.append(f"{field} {symbol} ?")
                values.append(float(bound))
    text = str(wanted.get("expression") or "").strip()
    if text:
        condition, own = kept_sql(Expression(text), index)
        left_out = wanted.get("side") == "left_out"
        parts.append(f"NOT ({condition})" if left_out else condition)
        values.extend(own)
    polygon = wanted.get("polygon")
    if polygon:
        parts.append(_inside(index, polygon))
    if labelled is not None:
        parts.append("id IN (SELECT unnest(?))")
        values.append(list(labelled))
    return Selection(" AND ".join(parts) or "TRUE", tuple(values))


def numeric_column(index: Index, name: str) -> Column:
    """Return a column of numbers by its name.

    Raises:
        SelectionError: there is none.
    """
    column = index.column(name)
    if column is None or not column.numeric:
        raise SelectionError(f"there is no column of numbers {name!r:.80}")
    return column


def field_of(index: Index, name: str) -> str:
    """Return the name in the database of a record's column, or of one of the index itself (`#outcome`).

    Raises:
        SelectionError: there is none.
    """
    if name.startswith("#") and name[1:] in ("row", "id", "reason", *FACETS):
        return name[1:]
    column = index.column(name)
    if column is None:
        raise SelectionError(f"there is no column {name!r:.80}")
    return column.field


def _one_of(index: Index, name: str, chosen: list[Any]) -> tuple[str, list[Any]]:
    field = field_of(index, name)
    texts = [str(value) for value in chosen if value is not None]
    parts = [f"{field}::VARCHAR IN ({', '.join('?' * len(texts))})"] if texts else []
    if None in chosen:
        parts.append(f"{field} IS NULL")
    return f"({' OR '.join(parts) or 'FALSE'})", texts


def _inside(index: Index, polygon: Mapping[str, Any]) -> str:
    """Return the condition of the points in a polygon."""
    x, y = (numeric_column(index, polygon[axis]).field for axis in ("x", "y"))
    points = tuple((float(px), float(py)) for px, py in polygon["points"])
    if not 3 <= len(points) <= MAX_CORNERS:
        raise SelectionError(f"a polygon has 3 to {MAX_CORNERS} corners, not {len(points)}")

    def rows() -> Any:
        found = index.arrays(
            f"SELECT row, {x}::DOUBLE AS x, {y}::DOUBLE AS y FROM rows WHERE {x} IS NOT NULL AND {y} IS NOT NULL"
        )
        return found["row"][inside(found["x"], found["y"], points)]

    return index.matches.listed(("polygon", x, y, points, index.rows), rows)
