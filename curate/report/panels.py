"""Panels: what the report shows, as values. The page loops over them and knows none by name.

    Section         a heading with its panels, such as "Speed"
    └── Panel       a title, and below it a chart, a table, or both
        ├── BarChart, LineChart
        └── Table

A plugin announces a function that makes panels from the reader of a run (`curate_report_panels`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from curate.report.sanitize import printable

Cell: TypeAlias = "str | float | None"
"""A cell of a table: a string, a number, or nothing."""

MORE = "more"
"""The section of panels that name none."""

_MOST_ROWS = 500
_MOST_POINTS = 5000


def _check_anchor(_: object, attribute: attrs.Attribute[Any], value: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9-]*", value):
        raise ValueError(f"{attribute.name}={value!r}: lower-case letters, digits and '-', beginning with a letter")


def _numbers(values: Sequence[float]) -> list[float | None]:
    """Return numbers for JSON, in which NaN and infinities are gaps."""
    return [float(value) if math.isfinite(value) else None for value in values]


@attrs.frozen
class BarChart:
    """Bars side by side, stacked where there are several series.

    Args:
        categories: the names below the bars.
        series: name → a number for each category.
        unit: of the numbers, at the axis.
    """

    categories: Sequence[str]
    series: Mapping[str, Sequence[float]]
    unit: str = ""

    def __attrs_post_init__(self) -> None:
        for name, values in self.series.items():
            if len(values) != len(self.categories):
                raise ValueError(f"series {name!r} has {len(values)} numbers for {len(self.categories)} categories")

    def described(self) -> dict[str, Any]:
        """Return the chart as the page's script draws it."""
        return {
            "kind": "bars",
            "unit": printable(self.unit, 60),
            "categories": [printable(name, 60) for name in self.categories[:_MOST_ROWS]],
            "series": [
                {"name": printable(name, 60), "values": _numbers(values[:_MOST_ROWS])}
                for name, values in self.series.items()
            ],
        }


@attrs.frozen
class LineChart:
    """Lines over numbers.

    Args:
        series: name → its points, (x, y) each, in order of x.
        x_unit: at the horizontal axis.
        unit: at the vertical axis.
    """

    series: Mapping[str, Sequence[tuple[float, float]]]
    x_unit: str = ""
    unit: str = ""

    def described(self) -> dict[str, Any]:
        """Return the chart as the page's script draws it."""
        return {
            "kind": "lines",
            "unit": printable(self.unit, 60),
            "x_unit": printable(self.x_unit, 60),
            "series": [
                {"name": printable(name, 60), "points": [_numbers(point) for point in points[:_MOST_POINTS]]}
                for name, points in self.series.items()
            ],
        }


@attrs.frozen
class DrawnChart:
    """A chart of curate itself, which the page's script knows by its kind.

    Args:
        data: the chart's `kind`, and what it needs.
    """

    data: Mapping[str, Any]

    def described(self) -> Mapping[str, Any]:
        """Return the chart as the page's script draws it."""
        return self.data


Chart: TypeAlias = "BarChart | LineChart | DrawnChart"


@attrs.frozen
class Column:
    """A column of a table.

    Args:
        title: its heading.
        kind: how its cells look: `text`, `number`, `key`, `name`, `mono`, or "".
    """

    title: str = ""
    kind: str = "text"


def _as_columns(columns: Sequence[Column | str]) -> tuple[Column, ...]:
    return tuple(Column(column) if isinstance(column, str) else column for column in columns)


@attrs.frozen
class Table:
    """A table; numbers stand on the right.

    Args:
        columns: headings as strings, or values of `Column`.
        rows: a cell for each column; more than 500 rows are cut off.
        tight: with less space between the rows.
        stacked: on a narrow screen, each row is shown as a block, with the headings in front of its figures.
    """

    columns: Sequence[Column | str] = attrs.field(converter=_as_columns)
    rows: Sequence[Sequence[Any]]
    tight: bool = False
    stacked: bool = False

    def __attrs_post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row has {len(row)} cells for {len(self.columns)} columns: {row!r:.200}")

    @property
    def shown_rows(self) -> Sequence[Sequence[Any]]:
        """The rows that are shown."""
        return self.rows[:_MOST_ROWS]

    @property
    def has_headings(self) -> bool:
        """Whether any column has a title."""
        return any(column.title for column in self.columns if isinstance(column, Column))


@attrs.frozen
class Panel:
    """A panel of the report: a title with a chart, a table, or both.

    Args:
        title: its heading.
        anchor: its id in the page, so that `report.html#anchor` leads to it: lower-case letters, digits and `-`.
        chart: what is drawn.
        table: what stands below the chart.
        note: a sentence below the heading.
        section: the anchor of the section that it belongs to, such as `speed`; a section of its own by default.
        wide: whether it takes the whole width.
    """

    title: str
    anchor: str = attrs.field(validator=_check_anchor)
    chart: Chart | None = None
    table: Table | None = None
    note: str = ""
    section: str = MORE
    wide: bool = False


@attrs.frozen
class OwnPanel(Panel):
    """A panel of curate itself, with more than a chart and a table.

    Args:
        shares: parts of a whole, drawn as a bar above the chart.
        notes: sentences below the table.
        body: a macro of the template that shows `data`, in place of everything else.
        data: what `body` shows.
        bare: whether it stands outside of the grid, without a frame.
    """

    shares: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[Mapping[str, Any]] = ()
    body: str = ""
    data: Any = None
    bare: bool = False


@attrs.frozen
class Section:
    """A heading of the report with its panels.

    Args:
        anchor: its id in the page.
        title: its heading.
        intro: a sentence below it.
        layout: how the panels stand: `grid`, or `grid three`.
        label: what the navigation calls it; the title by default.
    """

    anchor: str
    title: str
    intro: str
    panels: Sequence[Panel]
    layout: str = "grid"
    label: str = ""

    @property
    def bare(self) -> Sequence[Panel]:
        """The panels outside of the grid."""
        return [panel for panel in self.panels if isinstance(panel, OwnPanel) and panel.bare]

    @property
    def cards(self) -> Sequence[Panel]:
        """The panels in the grid."""
        return [panel for panel in self.panels if not (isinstance(panel, OwnPanel) and panel.bare)]
