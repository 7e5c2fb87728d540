"""Two runs record by record, matched by their ids: outcomes that differ, and the columns whose values do.

The two indexes are joined once, when both are complete; the page then asks about cells of the table of outcomes, and
about columns.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from curate_explorer.answers import shown, word_differences
from curate_explorer.audio import Clips
from curate_explorer.index import Column, Index
from curate_explorer.selection import SelectionError
from curate_explorer.source import FAILED, FILTERED, KEPT, RunSource

MAX_ROWS: Final = 100
MAX_COLUMNS: Final = 60
MAX_SETTINGS: Final = 50
OUTCOMES: Final = (KEPT, FILTERED, FAILED)
MISSING: Final = "missing"
"""In place of an outcome: the other run alone has the record."""
_BASE: Final = ("row", "id", "outcome", "stage", "reason", "code")


class Comparison:
    """Compares the rows of two indexes.

    Args:
        a, b: the indexes; `b` is closed and attached to `a` once both are complete.
    """

    def __init__(self, a: Index, b: Index) -> None:
        self._a = a
        self._b = b
        self._lock = threading.Lock()
        self._columns: list[dict[str, Any]] | None = None
        self.clips = Clips(b.source.roots, b.source.base)
        """The audio of the second run."""
        self.error = ""
        self.is_ready = False

    def build(self) -> None:
        """Index the second run and join the two; what goes wrong is in `error`, for the page."""
        self._b.build()
        try:
            self._a.attach(self._b)
            self._a.query(
                "CREATE TABLE matches.compared AS SELECT a.row AS a, b.row AS b, "
                f"coalesce(a.outcome, '{MISSING}') AS a_outcome, coalesce(b.outcome, '{MISSING}') AS b_outcome "
                "FROM rows a FULL JOIN other.rows b ON a.id = b.id"
            )
            self.is_ready = True
        except Exception as error:  # noqa: BLE001 (the page shows it)
            self.error = f"{type(error).__name__}: {error}"

    def close(self) -> None:
        """Stop indexing the second run."""
        self._b.close()

    def state(self, _: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the two sides, the settings that differ, and, once ready, the table of outcomes and the columns."""
        sides = [
            {
                "name": each.source.name,
                "path": str(each.source.path),
                "rows": each.rows,
                "complete": each.is_complete,
                "error": each.error,
            }
            for each in (self._a, self._b)
        ]
        answer: dict[str, Any] = {"sides": sides, "ready": self.is_ready, "error": self.error}
        if self.is_ready:
            answer |= {"outcomes": self._outcomes(), "columns": self._changed(), "settings": self._settings()}
        return answer

    def _outcomes(self) -> list[dict[str, Any]]:
        found = self._a.query("SELECT a_outcome, b_outcome, count(*) FROM matches.compared GROUP BY ALL ORDER BY ALL")
        return [{"a": a, "b": b, "records": records} for a, b, records in found]

    def _common(self) -> list[tuple[Column, Column]]:
        """Return the columns that both runs have."""
        pairs = [(column, self._b.column(column.name)) for column in self._a.columns]
        return [(one, other) for one, other in pairs if other is not None][:MAX_COLUMNS]

    def _changed(self) -> list[dict[str, Any]]:
        """Return for each common column how many records have another value in the second run; of numbers the means,
        over the records that have one in both."""
        with self._lock:
            if self._columns is None:
                self._columns = self._counted()
            return self._columns

    def _counted(self) -> list[dict[str, Any]]:
        common = self._common()
        if not common:
            return []
        parts: list[str] = []
        for one, other in common:
            a, b = _sides(one, other)
            both = f"FILTER ({a} IS NOT NULL AND {b} IS NOT NULL)"
            means = f"avg({a}) {both}, avg({b}) {both}" if _numeric(one, other) else "NULL, NULL"
            parts.append(f"count(*) FILTER ({a} IS DISTINCT FROM {b}), {means}")
        [found] = self._a.query(f"SELECT {', '.join(parts)} FROM {_JOINED} WHERE m.a IS NOT NULL AND m.b IS NOT NULL")
        answer = [
            {
                "name": one.name,
                "numeric": _numeric(one, other),
                "changed": found[3 * at],
                "mean_a": found[3 * at + 1],
                "mean_b": found[3 * at + 2],
            }
            for at, (one, other) in enumerate(common)
        ]
        return sorted(answer, key=lambda each: -each["changed"])

    def _settings(self) -> list[dict[str, Any]]:
        """Return the settings and inputs in which two runs differ; manifests have none."""
        runs = [each.source.run for each in (self._a, self._b) if isinstance(each.source, RunSource)]
        if len(runs) < 2:
            return []
        found = list(runs[0].differences(runs[1]))[:MAX_SETTINGS]
        return [
            {"stage": each.stage, "name": each.name, "a": _written(each.name, each.a), "b": _written(each.name, each.b)}
            for each in found
        ]

    def rows(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return some records of both runs side by side, and how many there are.

        Args:
            wanted: any of `a` and `b` (outcomes, or `missing`), `different` (ended differently), `column` (its values
                differ; those that differ most come first if they are numbers), `search`, `offset` and `limit`.

        Raises:
            SelectionError: there is no such column or outcome, or the comparison is not ready.
        """
        if not self.is_ready:
            raise SelectionError("the comparison is not ready yet")
        parts, values, order = ["TRUE"], list[Any](), "coalesce(m.a, m.b)"
        for side in ("a", "b"):
            outcome = wanted.get(side)
            if outcome:
                if outcome not in (*OUTCOMES, MISSING):
                    raise SelectionError(f"there is no outcome {outcome!r:.80}")
                parts.append(f"m.{side}_outcome = ?")
                values.append(outcome)
        if wanted.get("different"):
            parts.append("m.a_outcome <> m.b_outcome")
        search = str(wanted.get("search") or "").strip().lower()
        if search:
            parts.append("(contains(x.search, ?) OR contains(y.search, ?))")
            values += [search, search]
        if wanted.get("column"):
            one, other = self._pair(str(wanted["column"]))
            a, b = _sides(one, other)
            parts.append(f"m.a IS NOT NULL AND m.b IS NOT NULL AND {a} IS DISTINCT FROM {b}")
            if _numeric(one, other):
                order = f"abs({a} - {b}) DESC NULLS LAST, {order}"
        where = " AND ".join(parts)
        offset, limit = max(0, int(wanted.get("offset") or 0)), min(MAX_ROWS, int(wanted.get("limit") or 50))
        [(total,)] = self._a.query(f"SELECT count(*) FROM {_JOINED} WHERE {where}", values)
        found = self._a.query(
            f"SELECT m.a, m.b FROM {_JOINED} WHERE {where} ORDER BY {order} LIMIT {limit} OFFSET {offset}", values
        )
        return {"total": total, "offset": offset, "rows": self._pairs(found)}

    def _pair(self, name: str) -> tuple[Column, Column]:
        for one, other in self._common():
            if one.name == name:
                return one, other
        raise SelectionError(f"the two have no column {name!r:.80} in common")

    def _pairs(self, found: Sequence[tuple[int | None, int | None]]) -> list[dict[str, Any]]:
        sides = [self._records("rows", self._a.columns, [a for a, _ in found if a is not None])]
        sides.append(self._records("other.rows", self._b.columns, [b for _, b in found if b is not None]))
        answer: list[dict[str, Any]] = []
        for a, b in found:
            one, other = (None if at is None else side.get(at) for at, side in zip((a, b), sides, strict=True))
            answer.append({"id": (one or other or {}).get("id", ""), "a": one, "b": other, "texts": _texts(one, other)})
        return answer

    def _records(self, table: str, columns: Sequence[Column], numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
        if not numbers:
            return {}
        fields = ", ".join([*_BASE, *(column.field for column in columns)])
        rows = self._a.query(f"SELECT {fields} FROM {table} WHERE row IN ({', '.join(map(str, numbers))})")
        return {
            values[0]: {
                **dict(zip(_BASE, values, strict=False)),
                "values": {
                    column.name: shown(column, value)
                    for column, value in zip(columns, values[len(_BASE) :], strict=True)
                    if value is not None
                },
            }
            for values in rows
        }

    def record(self, number: int) -> Mapping[str, Any] | None:
        """Return a row of the second run."""
        if not self.is_ready:
            return None
        return self._records("other.rows", self._b.columns, [number]).get(number)


_JOINED: Final = "matches.compared m LEFT JOIN rows x ON x.row = m.a LEFT JOIN other.rows y ON y.row = m.b"


def _numeric(one: Column, other: Column) -> bool:
    return one.numeric and other.numeric


def _sides(one: Column, other: Column) -> tuple[str, str]:
    """Return the two sides of a comparison, as strings where their types are different."""
    if one.kind == other.kind or _numeric(one, other):
        return f"x.{one.field}", f"y.{other.field}"
    return f"x.{one.field}::VARCHAR", f"y.{other.field}::VARCHAR"


def _texts(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> dict[str, list[dict[str, str]]]:
    """Return the differences, word by word, of the strings that both records have and that are not equal."""
    if one is None or other is None:
        return {}
    pairs = {name: (value, other["values"].get(name)) for name, value in one["values"].items()}
    return {
        name: word_differences(a, b)
        for name, (a, b) in pairs.items()
        if isinstance(a, str) and isinstance(b, str) and a != b
    }


def _written(name: str, value: Any) -> str:
    if name == "inputs" and isinstance(value, list):
        inputs = cast("list[Mapping[str, Any]]", value)
        return "; ".join(f"{each.get('path')}, {each.get('size', 0):,} bytes" for each in inputs)[:300]
    text = value if isinstance(value, str) else f"{value!r}"
    return text if len(text) <= 300 else f"{text[:300]} …"
