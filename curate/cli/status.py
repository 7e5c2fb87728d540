"""`curate status`: the state of a run, read from its directory, from anywhere and without disturbing the run."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curate.cli.session import Session, pass_session
from curate.durations import duration_text
from curate.plural import counted

if TYPE_CHECKING:
    from curate.engine import Holder, LiveProgress, RunReader

_TOP_FAILURES = 3


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch, one line each time.")
@click.option("--watch", is_flag=True, help="Repeat until the run ends.")
@click.option(
    "--interval", type=click.FloatRange(min=0.1), default=2.0, show_default=True, help="Seconds between two reads."
)
@pass_session
def status(session: Session, run_dir: Path, as_json: bool, watch: bool, interval: float) -> None:
    """Show the status of a run: its progress, its speed, the most frequent failures, and its driver."""
    from curate.engine import RunReader, RunStatus

    pause = threading.Event()
    while True:
        found = describe_status(RunReader(run_dir))
        if as_json:
            click.echo(json.dumps(found, indent=None if watch else 1, ensure_ascii=False))
        else:
            _show(session, found)
        if not watch or found["status"] != RunStatus.RUNNING:
            return
        if not as_json:
            session.console.print()
        pause.wait(interval)


def describe_status(run: RunReader) -> dict[str, Any]:
    """Return the status of a run as `curate status --json` prints it.

    Counts are of what is committed; `live` is the driver's last report, a few seconds old while it works.

    Raises:
        InfrastructureError: a commit is damaged.
    """
    live = run.progress()  # before the status: a run that ends in between has no progress any more
    driver = run.driver
    return {
        "name": run.name,
        "run_dir": str(run.run_dir),
        "status": run.status.value,
        "error": run.error,
        "driver": None if driver is None else _driver(driver),
        "phases": [_phase(run, phase) for phase in range(len(run.layout))],
        "committed_at": run.committed_at(),
        "live": None if live is None else _live(live),
        "failures": [
            {"stage": stage, "code": code, "records": records}
            for stage, code, records in run.failure_counts()[:_TOP_FAILURES]
        ],
    }


def _phase(run: RunReader, phase: int) -> dict[str, Any]:
    counts = run.counts(phase)
    return {
        "stages": run.layout[phase],
        "complete": run.is_complete(phase),
        "records_in": counts.records_in,
        "kept": counts.kept,
        "filtered": counts.filtered,
        "quarantined": counts.quarantined,
        "audio_hours_in": round((counts.in_ms + counts.measured_ms) / 3_600_000, 6),
    }


def _driver(driver: Holder) -> dict[str, Any]:
    return {
        "host": driver.host,
        "pid": driver.pid,
        "since": driver.since,
        "alive": driver.alive,
        "damaged": driver.damaged,
        "silent_s": round(max(driver.silent_s, 0.0), 1),
    }


def _live(live: LiveProgress) -> dict[str, Any]:
    """Return the phase at work: its counts, its speed in this attempt, and the time left."""
    left_s = live.rate.left_s(live.expected, live.records_in)
    return {
        "executor": live.executor,
        "phase": live.phase,
        "records_in": live.records_in,
        "kept": live.kept,
        "filtered": live.filtered,
        "quarantined": live.quarantined,
        "expected": live.expected,
        "records_per_s": round(live.rate.records_per_s, 3),
        "rtfx": round(live.rate.rtfx, 3),
        "eta_s": None if left_s is None else round(left_s, 1),
        "age_s": round(live.age_s, 1),
    }


def _show(session: Session, found: dict[str, Any]) -> None:
    from rich.table import Table

    from curate.engine import RunStatus

    show = session.console.print
    error = f" ({found['error']})" if found["error"] not in ("", found["status"]) else ""
    show(f"{found['name']} in {found['run_dir']}: {found['status']}{error}", soft_wrap=True)
    driver = found["driver"]
    if driver is not None and driver["damaged"]:
        show("driver: unknown, because the lock file is damaged")
    elif driver is not None:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(driver["since"]))
        gone = "was killed" if found["status"] == RunStatus.CRASHED else "has left"
        state = "is at work" if driver["alive"] else gone
        show(f"driver: process {driver['pid']} on {driver['host']} since {since} {state}")
    table = Table(box=None, pad_edge=False)
    table.add_column("phase", overflow="fold")
    for heading in ("in", "kept", "filtered", "quarantined", "hours", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for number, phase in enumerate(found["phases"]):
        counts = [f"{phase[name]:,}" for name in ("records_in", "kept", "filtered", "quarantined")]
        hours = f"{phase['audio_hours_in']:,.2f}"
        complete = "complete" if phase["complete"] else ""
        table.add_row(f"{number}: {', '.join(phase['stages'])}", *counts, hours, complete)
    show(table)
    live = found["live"]
    if live is not None:
        known, done = live["expected"] is not None, live["records_in"]
        records = f"{done:,} of {counted(live['expected'])}" if known else counted(done)
        left = "" if live["eta_s"] is None else f", {duration_text(round(live['eta_s']))} left"
        show(
            f"phase {live['phase']}: {records}, {live['records_per_s']:,.1f} records/s, "
            f"{live['rtfx']:,.1f} times real time{left}"
        )
    for kind in found["failures"]:
        show(f"failed: {kind['records']:,} {kind['code']} at {kind['stage']}")
    if found["status"] in (RunStatus.CRASHED, RunStatus.INTERRUPTED, RunStatus.FAILED, RunStatus.UNFINISHED):
        show("Run the same command again to resume this run.")
