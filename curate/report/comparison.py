"""Compares two runs: settings that differ, records that ended differently, and the speed of each.

Records are matched by `_id`, in an index on disk, so memory does not grow with their number.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs

from curate.engine import NOT_SET, RunDifference, RunReader
from curate.records import ID
from curate.report.columns import Columns, columns_of
from curate.report.flow import balance
from curate.report.histogram import Histogram
from curate.report.samples import as_number, record_of
from curate.report.sanitize import printable
from curate.report.scan import FATES, rows_of
from curate.report.speed import speed_of


@attrs.frozen
class RunSide:
    """The results of one of the runs.

    Args:
        error_rate: the median over its records, kept or not; None: it does not compare texts.
        rtfx: seconds of audio for each second of work.
    """

    run_dir: str
    name: str
    state: str
    records_in: int
    kept: int
    filtered: int
    quarantined: int
    kept_hours: float
    error_rate: float | None
    rtfx: float | None
    worked_s: float | None


@attrs.frozen
class RecordOutcome:
    """How a record ended in one of the runs."""

    fate: str
    stage: str
    because: str


@attrs.frozen
class Change:
    """A record that ended differently in the two runs."""

    id: str
    a: RecordOutcome
    b: RecordOutcome


@attrs.frozen
class Rates:
    """Error rates of the records that have one in both runs."""

    records: int
    better: int
    worse: int
    mean_a: float
    mean_b: float


@attrs.define
class Comparison:
    """Two runs, compared; open only inside of `comparing`.

    Args:
        moved: how many records went from which fate in the first run to which in the second; unchanged ones too.
        only_in_a, only_in_b: how many records the other run does not have.
    """

    a: RunSide
    b: RunSide
    settings: tuple[RunDifference, ...]
    moved: Mapping[tuple[str, str], int]
    only_in_a: int
    only_in_b: int
    rates: Rates | None
    problems: tuple[str, ...]
    _index: sqlite3.Connection = attrs.field(alias="index", repr=False)

    @property
    def changed(self) -> int:
        """The number of records that ended differently."""
        return sum(count for (a, b), count in self.moved.items() if a != b)

    def changes(self, limit: int | None = None) -> Iterator[Change]:
        """Yield the records that ended differently, by their ids."""
        rows = self._index.execute(
            "SELECT id, a_fate, a_stage, a_because, b_fate, b_stage, b_because FROM ends "
            "WHERE a_fate <> b_fate ORDER BY id LIMIT ?",
            (-1 if limit is None else limit,),
        )
        for identity, *ends in rows:
            yield Change(identity, RecordOutcome(*ends[:3]), RecordOutcome(*ends[3:]))


@contextmanager
def comparing(a: Path, b: Path) -> Generator[Comparison]:
    """Compare two runs; a temporary index of their records exists inside of the block.

    Raises:
        RunDirectoryError: one of them is not a run directory, or has another format.
    """
    runs = (RunReader(a), RunReader(b))
    columns = tuple(columns_of(run.settings) for run in runs)
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as folder, closing(sqlite3.connect(Path(folder) / "ends.sqlite")) as index:
        index.executescript(
            "PRAGMA synchronous = OFF; PRAGMA cache_size = -65536;"  # in KiB
            "CREATE TABLE ends (id TEXT PRIMARY KEY, a_fate TEXT, a_stage TEXT, a_because TEXT, a_rate REAL,"
            " b_fate TEXT, b_stage TEXT, b_because TEXT, b_rate REAL) WITHOUT ROWID"
        )
        rates = [_fill(index, side, run, of, problems) for side, run, of in zip("ab", runs, columns, strict=True)]
        yield Comparison(
            a=_side(runs[0], rates[0]),
            b=_side(runs[1], rates[1]),
            settings=tuple(_differences(*runs)),
            moved=_moved(index),
            only_in_a=_count(index, "a_fate IS NOT NULL AND b_fate IS NULL"),
            only_in_b=_count(index, "b_fate IS NOT NULL AND a_fate IS NULL"),
            rates=_rates(index),
            problems=tuple(problems),
            index=index,
        )


def _fill(index: sqlite3.Connection, side: str, run: RunReader, columns: Columns, problems: list[str]) -> Histogram:
    """Put a run's records into the index, and return their error rates."""
    rates = Histogram()
    names = ", ".join(f"{side}_{name}" for name in ("fate", "stage", "because", "rate"))
    updates = ", ".join(f"{side}_{name} = excluded.{side}_{name}" for name in ("fate", "stage", "because", "rate"))
    compared = columns.comparison

    def rows() -> Iterator[tuple[str, str, str, str, float | None]]:
        for fate in FATES:
            for row in rows_of(run, fate, problems):
                rate = None if compared is None else as_number(record_of(fate, row).get(compared.column))
                if rate is not None:
                    rates.add(rate)
                because = row.get("code" if fate == "quarantined" else "reason", "") if fate != "kept" else ""
                stage = row.get("stage", "") if fate != "kept" else ""
                yield printable(row.get(ID), 4000), fate, printable(stage, 200), printable(because, 400), rate

    index.executemany(
        f"INSERT INTO ends (id, {names}) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET {updates}", rows()
    )
    return rates


def _side(run: RunReader, rates: Histogram) -> RunSide:
    terms = {term.kind: term for term in balance(run)}
    speed = speed_of(run.events())
    summary = run.summary or {}
    return RunSide(
        run_dir=str(run.run_dir),
        name=printable(run.name, 200),
        state=run.status.value,
        records_in=terms["in"].records,
        kept=terms["kept"].records,
        filtered=terms["filtered"].records,
        quarantined=terms["quarantined"].records,
        kept_hours=round(terms["kept"].ms / 3_600_000, 6),
        error_rate=rates.quantile(0.5),
        rtfx=_rounded(speed.rtfx if speed.rtfx is not None else summary.get("rtfx")),
        worked_s=_rounded(speed.worked_s or summary.get("wall_s")),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _differences(a: RunReader, b: RunReader) -> Iterator[RunDifference]:
    """Yield the differences of the settings and inputs, then of the versions and executors."""
    yield from a.differences(b)
    old, new = _versions(a), _versions(b)
    for name in dict.fromkeys((*old, *new)):
        if old.get(name, NOT_SET) != new.get(name, NOT_SET):
            yield RunDifference("", name, old.get(name, NOT_SET), new.get(name, NOT_SET))


def _versions(run: RunReader) -> Mapping[str, Any]:
    """Return the versions and the executor of a run's last attempt."""
    attempts = run.attempts()
    if not attempts:
        return {"curate": run.description["curate"]}
    return {**attempts[-1].get("versions", {}), "executor": attempts[-1].get("executor")}


def _moved(index: sqlite3.Connection) -> dict[tuple[str, str], int]:
    rows = index.execute(
        "SELECT a_fate, b_fate, COUNT(*) FROM ends WHERE a_fate IS NOT NULL AND b_fate IS NOT NULL "
        "GROUP BY a_fate, b_fate"
    )
    return {(a, b): count for a, b, count in rows}


def _count(index: sqlite3.Connection, where: str) -> int:
    return int(index.execute(f"SELECT COUNT(*) FROM ends WHERE {where}").fetchone()[0])


def _rates(index: sqlite3.Connection) -> Rates | None:
    records, better, worse, mean_a, mean_b = index.execute(
        "SELECT COUNT(*), TOTAL(b_rate < a_rate), TOTAL(b_rate > a_rate), AVG(a_rate), AVG(b_rate) FROM ends "
        "WHERE a_rate IS NOT NULL AND b_rate IS NOT NULL"
    ).fetchone()
    return Rates(records, int(better), int(worse), round(mean_a, 6), round(mean_b, 6)) if records else None
