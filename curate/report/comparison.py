"""Two runs side by side: what was set otherwise, which records came to another end, and how fast each went.

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

from curate.records import ID
from curate.report.columns import Columns, columns_of
from curate.report.flow import balance
from curate.report.histogram import Histogram
from curate.report.run_files import RunFiles
from curate.report.samples import as_number, record_of
from curate.report.sanitize import printable
from curate.report.scan import FATES
from curate.report.speed import speed_of

_NOT_SET = "(not set)"


@attrs.frozen
class RunSide:
    """What one of the runs came to.

    Args:
        error_rate: the median over its records, kept or not; None: it compares no texts.
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
class Setting:
    """A setting, an input or a version in which the runs differ."""

    stage: str
    name: str
    a: Any
    b: Any


@attrs.frozen
class RecordOutcome:
    """How a record ended in one of the runs."""

    fate: str
    stage: str
    because: str


@attrs.frozen
class Change:
    """A record that ended otherwise in the two runs."""

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
    settings: tuple[Setting, ...]
    moved: Mapping[tuple[str, str], int]
    only_in_a: int
    only_in_b: int
    rates: Rates | None
    problems: tuple[str, ...]
    _index: sqlite3.Connection = attrs.field(alias="index", repr=False)

    @property
    def changed(self) -> int:
        """How many records came to another end."""
        return sum(count for (a, b), count in self.moved.items() if a != b)

    def changes(self, limit: int | None = None) -> Iterator[Change]:
        """Yield the records that came to another end, by their ids."""
        rows = self._index.execute(
            "SELECT id, a_fate, a_stage, a_because, b_fate, b_stage, b_because FROM ends "
            "WHERE a_fate <> b_fate ORDER BY id LIMIT ?",
            (-1 if limit is None else limit,),
        )
        for identity, *ends in rows:
            yield Change(identity, RecordOutcome(*ends[:3]), RecordOutcome(*ends[3:]))


@contextmanager
def comparing(a: Path, b: Path) -> Generator[Comparison]:
    """Compare two runs; a temporary index of their records lives for the length of the block.

    Raises:
        RunDirectoryError: one of them is no run, or one of another version.
    """
    runs = (RunFiles.open(a), RunFiles.open(b))
    columns = tuple(columns_of(files.settings) for files in runs)
    with tempfile.TemporaryDirectory() as folder, closing(sqlite3.connect(Path(folder) / "ends.sqlite")) as index:
        index.executescript(
            "PRAGMA synchronous = OFF; PRAGMA cache_size = -65536;"  # in KiB
            "CREATE TABLE ends (id TEXT PRIMARY KEY, a_fate TEXT, a_stage TEXT, a_because TEXT, a_rate REAL,"
            " b_fate TEXT, b_stage TEXT, b_because TEXT, b_rate REAL) WITHOUT ROWID"
        )
        rates = [_fill(index, side, *pair) for side, pair in zip("ab", zip(runs, columns, strict=True), strict=True)]
        yield Comparison(
            a=_side(runs[0], rates[0]),
            b=_side(runs[1], rates[1]),
            settings=tuple(_differences(*runs)),
            moved=_moved(index),
            only_in_a=_count(index, "a_fate IS NOT NULL AND b_fate IS NULL"),
            only_in_b=_count(index, "b_fate IS NOT NULL AND a_fate IS NULL"),
            rates=_rates(index),
            problems=tuple(problem for files in runs for problem in files.problems),
            index=index,
        )


def _fill(index: sqlite3.Connection, side: str, files: RunFiles, columns: Columns) -> Histogram:
    """Put a run's records into the index, and return their error rates."""
    rates = Histogram()
    names = ", ".join(f"{side}_{name}" for name in ("fate", "stage", "because", "rate"))
    updates = ", ".join(f"{side}_{name} = excluded.{side}_{name}" for name in ("fate", "stage", "because", "rate"))
    compared = columns.comparison

    def rows() -> Iterator[tuple[str, str, str, str, float | None]]:
        for fate in FATES:
            for row in files.records(fate):
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


def _side(files: RunFiles, rates: Histogram) -> RunSide:
    terms = {term.kind: term for term in balance(files)}
    speed = speed_of(files.events)
    summary = files.summary or {}
    return RunSide(
        run_dir=str(files.directory),
        name=printable(files.run.get("name", ""), 200),
        state=files.state.name,
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


def _differences(a: RunFiles, b: RunFiles) -> Iterator[Setting]:
    """Yield what was set otherwise, in the order of the stages."""
    for stage in dict.fromkeys((*a.settings, *b.settings)):
        old, new = a.settings.get(stage), b.settings.get(stage)
        if old is None or new is None:
            yield Setting(stage, "stage", _there(old), _there(new))
            continue
        for name in dict.fromkeys((*old, *new)):
            if old.get(name, _NOT_SET) != new.get(name, _NOT_SET):
                yield Setting(stage, name, old.get(name, _NOT_SET), new.get(name, _NOT_SET))
    if a.layout != b.layout and list(a.settings) == list(b.settings):
        yield Setting("", "phases", a.layout, b.layout)
    if a.run.get("inputs") != b.run.get("inputs"):
        yield Setting("", "inputs", a.run.get("inputs"), b.run.get("inputs"))
    old_versions, new_versions = _versions(a), _versions(b)
    for name in dict.fromkeys((*old_versions, *new_versions)):
        if old_versions.get(name, _NOT_SET) != new_versions.get(name, _NOT_SET):
            yield Setting("", name, old_versions.get(name, _NOT_SET), new_versions.get(name, _NOT_SET))


def _there(settings: Mapping[str, Any] | None) -> str:
    return "(absent)" if settings is None else str(settings.get("class", "present"))


def _versions(files: RunFiles) -> Mapping[str, Any]:
    """Return what the last life of a run ran with and on."""
    if not files.lives:
        return {"curate": files.run.get("curate")}
    life = files.lives[-1]
    return {**life.get("versions", {}), "executor": life.get("executor")}


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
