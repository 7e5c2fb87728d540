"""What the page asks: rows, facets, histograms, thresholds, points of a scatter plot, one record, labels."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from curate.engine import RunReader
from curate.expressions import Expression
from curate.suggest import closest
from curate.text.aligned_units import aligned_units
from curate_explorer.annotations import Annotations
from curate_explorer.expression_sql import kept_sql
from curate_explorer.index import Column, Index
from curate_explorer.selection import FACETS, Selection, SelectionError, field_of, numeric_column, selected

MAX_ROWS: Final = 200
FACET_VALUES: Final = 40
HISTOGRAM_BINS: Final = 60
SCATTER_POINTS: Final = 6_000
SAMPLED_VALUES: Final = 20_000
MAX_DISTINCT: Final = 300
"""A column of text with more values than about this many is searched, and not shown as a facet."""
BORDERLINE: Final = 4
DIFFERENT_WORDS: Final = 400
_NEAR_ROWS: Final = 5_000
"""Rows up to this offset are found by DuckDB's top-n; deeper ones in an order that is made once and kept."""
_KEPT_ORDERS: Final = 4


@attrs.frozen
class FilterStage:
    """The filter of a run whose expression the page can change.

    Args:
        name: of the stage.
        expression: as it was.
        after: the stages behind it, whose filtered and failed records have passed it.
    """

    name: str
    expression: str
    after: tuple[str, ...]


def filters_of(run: RunReader) -> list[FilterStage]:
    """Return the filters of a run that have an expression, in their order."""
    names = [name for phase in run.layout for name in phase]
    return [
        FilterStage(name, str(settings["expression"]), tuple(names[names.index(name) + 1 :]))
        for name in names
        if "expression" in (settings := run.settings.get(name, {})) and "QualityFilter" in str(settings.get("class"))
    ]


class Answers:
    """Answers the requests of a page about an index.

    Args:
        index: the rows.
        filters: the run's filters; empty for a manifest.
        annotations: the labels.
    """

    def __init__(self, index: Index, filters: Sequence[FilterStage], annotations: Annotations) -> None:
        self.index = index
        self.filters = {each.name: each for each in filters}
        self.annotations = annotations
        self._orders: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._lock = threading.Lock()
        self._few: list[str] | None = None

    def _selected(self, wanted: Mapping[str, Any]) -> Selection:
        label = wanted.get("label")
        ids = None if not label else self.annotations.ids(None if label == "any" else str(label))
        chosen = selected(self.index, wanted, ids)
        if not wanted.get("expression"):
            return chosen
        reached, values = self._reached(self.filters.get(str(wanted.get("filter") or "")))
        return Selection(f"{reached} AND {chosen.where}", (*values, *chosen.values))

    def _hours(self) -> str:
        column = self.index.column("duration")
        return f"coalesce(sum({column.field}), 0)::DOUBLE / 3600" if column is not None and column.numeric else "NULL"

    def state(self) -> dict[str, Any]:
        """Return the content of the page around the table."""
        index = self.index
        outcomes = index.query(f"SELECT outcome, count(*), {self._hours()} FROM rows GROUP BY ALL")
        return {
            "name": index.source.name,
            "path": str(index.source.path),
            "rows": index.rows,
            "complete": index.is_complete,
            "error": index.error,
            "columns": [{"name": each.name, "kind": each.kind} for each in index.columns],
            "outcomes": {outcome: {"records": count, "hours": hours} for outcome, count, hours in outcomes},
            "filters": [{"name": each.name, "expression": each.expression} for each in self.filters.values()],
            "facets": self._faceted(),
            "labels": self.annotations.counts(),
            "annotations": str(self.annotations.path),
        }

    def _faceted(self) -> list[str]:
        """Return the columns of text and truth values that have few values, once the index is complete."""
        if self._few is None and self.index.is_complete:
            columns = [each for each in self.index.columns if each.kind in ("text", "boolean")][:60]
            counted = ", ".join(f"approx_count_distinct({each.field})" for each in columns)
            [found] = self.index.query(f"SELECT {counted} FROM rows") if columns else [()]
            self._few = [
                each.name
                for each, distinct in zip(columns, found, strict=True)
                if 0 < distinct <= MAX_DISTINCT and distinct * 2 <= self.index.rows + 1
            ]
        return self._few or []

    # The table.

    def table(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return some rows of a selection, in an order, and how many there are.

        Args:
            wanted: a selection, and `sort` (a column), `descending`, `offset` and `limit`.
        """
        chosen = self._selected(wanted)
        offset, limit = max(0, int(wanted.get("offset") or 0)), min(MAX_ROWS, int(wanted.get("limit") or 50))
        [(total, hours)] = self.index.query(
            f"SELECT count(*), {self._hours()} FROM rows WHERE {chosen.where}", chosen.values
        )
        sort = str(wanted.get("sort") or "#row")
        field = field_of(self.index, sort)
        order = f"{field} {'DESC' if wanted.get('descending') else 'ASC'} NULLS LAST, row"
        numbers = self._numbers(chosen, order, offset, limit)
        return {"total": total, "hours": hours, "offset": offset, "rows": self._rows(numbers)}

    def _numbers(self, chosen: Selection, order: str, offset: int, limit: int) -> list[int]:
        sql = f"SELECT row FROM rows WHERE {chosen.where} ORDER BY {order}"
        if offset < _NEAR_ROWS:
            found = self.index.query(f"{sql} LIMIT {limit} OFFSET {offset}", chosen.values)
            return [number for (number,) in found]
        key = (sql, json.dumps(chosen.values, default=str), self.index.rows)
        with self._lock:
            kept = self._orders.pop(key, None)
            if kept is None:
                kept = self.index.arrays(sql, chosen.values)["row"]
            self._orders[key] = kept
            while len(self._orders) > _KEPT_ORDERS:
                self._orders.popitem(last=False)
        return kept[offset : offset + limit].tolist()

    def _rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        if not numbers:
            return []
        columns = self.index.columns
        fields = "".join(f", {each.field}" for each in columns)
        found = self.index.query(
            f"SELECT row, id, outcome, stage, reason, code{fields} FROM rows "
            f"WHERE row IN ({', '.join(map(str, numbers))})"
        )
        by_number = {values[0]: self._row(columns, values) for values in found}
        return [by_number[number] for number in numbers if number in by_number]

    def _row(self, columns: Sequence[Column], values: Sequence[Any]) -> dict[str, Any]:
        label = self.annotations.of(values[1])
        names = ("row", "id", "outcome", "stage", "reason", "code")
        return {
            **dict(zip(names, values, strict=False)),
            "values": {
                each.name: shown(each, value)
                for each, value in zip(columns, values[len(names) :], strict=True)
                if value is not None
            },
            "verdict": None if label is None else label.verdict or "note",
        }

    def record(self, number: int) -> dict[str, Any] | None:
        """Return a row whole, with its label, the differences of its texts and its way through the stages."""
        found = self._rows([number])
        if not found:
            return None
        row = found[0]
        label = self.annotations.of(row["id"])
        row["label"] = None if label is None else {"verdict": label.verdict, "text": label.text, "note": label.note}
        values = row["values"]
        texts = [values.get(name) for name in ("text", "pred_text")]
        row["differences"] = word_differences(*texts) if all(isinstance(text, str) for text in texts) else None
        row["way"] = self._way(row)
        return row

    def _way(self, row: Mapping[str, Any]) -> list[dict[str, str]]:
        run = getattr(self.index.source, "run", None)
        if run is None:
            return []
        names = [name for phase in run.layout for name in phase]
        stopped = names.index(row["stage"]) if row["stage"] in names else len(names)
        return [
            {"stage": name, "state": "passed" if at < stopped else row["outcome"] if at == stopped else "not reached"}
            for at, name in enumerate(names)
        ]

    # Facets, histograms, points.

    def facets(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of columns with few of them, and their counts in a selection.

        Args:
            wanted: a selection, and `columns`.
        """
        answer: dict[str, Any] = {}
        for name in list(wanted.get("columns") or [f"#{each}" for each in FACETS])[:20]:
            field = field_of(self.index, str(name))
            others = dict(wanted.get("facets") or {})
            others.pop(name, None)  # the other values of a facet stay to be chosen
            chosen = self._selected({**wanted, "facets": others})
            found = self.index.query(
                f"SELECT {field}::VARCHAR, count(*) FROM rows WHERE {chosen.where} "
                f"GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {FACET_VALUES + 1}",
                chosen.values,
            )
            answer[name] = {
                "values": [{"value": value, "records": records} for value, records in found[:FACET_VALUES]],
                "more": len(found) > FACET_VALUES,
            }
        return answer

    def histogram(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return the distribution of a column by outcome, between its 0.1 % and 99.9 % quantiles where it has tails.

        Args:
            wanted: `column`.
        """
        field = numeric_column(self.index, str(wanted.get("column"))).field
        [(least, most, count)] = self.index.query(
            f"SELECT min({field})::DOUBLE, max({field})::DOUBLE, count({field}) FROM rows"
        )
        step = max(1, count // SAMPLED_VALUES)
        [(low, high)] = self.index.query(
            f"SELECT quantile_disc({field}, 0.001)::DOUBLE, quantile_disc({field}, 0.999)::DOUBLE FROM rows "
            f"WHERE {field} IS NOT NULL AND hash(row) % {step} = 0"
        )
        if not count or low is None or high is None:
            return {"least": None, "most": None, "bins": [], "records": 0}
        if high <= low:
            low, high = least, most
        width = (high - low) / HISTOGRAM_BINS or 1.0
        found = self.index.query(
            f"SELECT least({HISTOGRAM_BINS - 1}, greatest(0, floor(({field} - ?) / ?)))::INTEGER, outcome, count(*) "
            f"FROM rows WHERE {field} IS NOT NULL GROUP BY ALL",
            (low, width),
        )
        bins: list[dict[str, Any]] = [{} for _ in range(HISTOGRAM_BINS)]
        for number, outcome, records in found:
            bins[number][outcome] = records
        return {"least": least, "most": most, "low": low, "width": width, "bins": bins, "records": count}

    def scatter(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return points of two columns, at most 6,000 of a selection, evenly over its rows.

        Args:
            wanted: a selection, and `x` and `y`.
        """
        x, y = (numeric_column(self.index, str(wanted.get(axis))).field for axis in ("x", "y"))
        chosen = self._selected({key: value for key, value in wanted.items() if key != "polygon"})
        both = f"{chosen.where} AND {x} IS NOT NULL AND {y} IS NOT NULL"
        [(total,)] = self.index.query(f"SELECT count(*) FROM rows WHERE {both}", chosen.values)
        step = max(1, -(-total // SCATTER_POINTS))
        # hashed, since the outcomes lie one after the other
        found = self.index.query(
            f"SELECT row, {x}::DOUBLE, {y}::DOUBLE, outcome FROM rows WHERE {both} AND hash(row) % {step} = 0",
            chosen.values,
        )
        return {"total": total, "points": found}

    # Thresholds.

    def threshold(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return the records and hours that a filter would keep with another expression, of those that have reached it.

        Args:
            wanted: `expression`, and `filter` (the stage's name; none: all rows count).
        """
        stage = self.filters.get(str(wanted.get("filter") or ""))
        reached, values = self._reached(stage)
        expression = Expression(str(wanted["expression"]))
        condition, own = kept_sql(expression, self.index)
        hours = self._hours()
        [(records, all_hours)] = self.index.query(f"SELECT count(*), {hours} FROM rows WHERE {reached}", values)
        [(kept, kept_hours, new)] = self.index.query(
            f"SELECT count(*), {hours}, count(*) FILTER (outcome <> 'kept') FROM rows WHERE {reached} AND {condition}",
            (*values, *own),
        )
        [(now,)] = self.index.query("SELECT count(*) FROM rows WHERE outcome = 'kept'")
        labels = self._agreement(condition, own)
        return {
            "reached": records,
            "reached_hours": all_hours,
            "kept": kept,
            "kept_hours": kept_hours,
            "kept_now": now,
            "new": new,
            "lost": now - (kept - new),
            "agreement": labels,
            "unknown": self._unknown(expression),
        }

    def _unknown(self, expression: Expression) -> str:
        """Return that no record has a column of an expression; "" if there are all, or the index is incomplete."""
        names = [each.name for each in self.index.columns]
        missing = next((name for name in sorted(expression.required) if name not in names), None)
        if missing is None or not self.index.is_complete:
            return ""
        return f"no record has the column {missing!r}: {closest(missing, names)}"

    def _reached(self, stage: FilterStage | None) -> tuple[str, list[Any]]:
        """Return the rows that have reached a filter: it filtered them, or they reached later stages."""
        if stage is None:
            return "TRUE", []
        here = [stage.name, *stage.after]
        marks = ", ".join("?" * len(here))
        return f"(outcome = 'kept' OR stage IN ({marks}))", here

    def _agreement(self, condition: str, values: Sequence[Any]) -> dict[str, Any] | None:
        """Return how an expression agrees with the labels; precision and recall of what is accepted."""
        accepted, rejected = self.annotations.ids("accept"), self.annotations.ids("reject")
        if not accepted and not rejected:
            return None
        [(kept_good,)], [(kept_bad,)] = (
            self.index.query(
                f"SELECT count(*) FROM rows WHERE id IN (SELECT unnest(?)) AND {condition}", (ids, *values)
            )
            for ids in (accepted, rejected)
        )
        return {
            "accepted": len(accepted),
            "rejected": len(rejected),
            "precision": kept_good / (kept_good + kept_bad) if kept_good + kept_bad else None,
            "recall": kept_good / len(accepted) if accepted else None,
        }

    def borderline(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return the rows whose value of a column is nearest to a threshold, on both sides.

        Args:
            wanted: `column`, `value`.
        """
        field, value = numeric_column(self.index, str(wanted.get("column"))).field, float(wanted["value"])
        sides: dict[str, Any] = {}
        for side, condition, order in (("below", f"{field} <= ?", "DESC"), ("above", f"{field} > ?", "ASC")):
            found = self.index.query(
                f"SELECT row FROM rows WHERE {condition} ORDER BY {field} {order}, row LIMIT {BORDERLINE}", (value,)
            )
            sides[side] = self._rows([number for (number,) in found])
        return sides


def word_differences(reference: str, hypothesis: str) -> list[dict[str, str]]:
    """Return the pairs of words of two texts, whose case is not compared."""
    expected, recognised = (text.split()[:DIFFERENT_WORDS] for text in (reference, hypothesis))
    pairs = aligned_units(expected, recognised, str.casefold)
    return [{"kind": kind, "reference": one, "hypothesis": other} for kind, one, other in pairs]


def shown(column: Column, value: Any) -> Any:
    """Return a value of the index as JSON for the page."""
    if column.kind == "json":
        return json.loads(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1 << 53:
        return str(value)  # JavaScript's numbers do not hold it
    return value


__all__ = ["Answers", "FilterStage", "SelectionError", "filters_of", "shown", "word_differences"]
