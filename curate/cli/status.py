"""`curate status`: how a run is doing, read from its files; it can be asked from anywhere and disturbs nothing."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import click

from curate.cli.session import Session, pass_session


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch, one line each time.")
@click.option("--watch", is_flag=True, help="Look again until the run ends.")
@click.option(
    "--interval", type=click.FloatRange(min=0.1), default=2.0, show_default=True, help="Seconds between two looks."
)
@pass_session
def status(session: Session, run_dir: Path, as_json: bool, watch: bool, interval: float) -> None:
    """Say how far a run is, how fast, what failed most, and whether its driver lives."""
    from curate.engine.run_status import read_status

    pause = threading.Event()
    while True:
        found = read_status(run_dir)
        if as_json:
            click.echo(json.dumps(found, indent=None if watch else 1, ensure_ascii=False))
        else:
            _show(session, found)
        if not watch or found["status"] != "running":
            return
        if not as_json:
            session.console.print()
        pause.wait(interval)


def _show(session: Session, found: dict[str, Any]) -> None:
    from rich.table import Table

    show = session.console.print
    show(f"{found['name']} in {found['run_dir']}: {found['status']}", soft_wrap=True)
    driver = found["driver"]
    if driver is not None:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(driver["since"]))
        lives = "is at work" if driver["alive"] else "has left" if found["status"] != "dead" else "is dead"
        show(f"driver: process {driver['pid']} on {driver['host']} since {since} {lives}")
    table = Table(box=None, pad_edge=False)
    table.add_column("phase", overflow="fold")
    for heading in ("in", "kept", "filtered", "quarantined", "hours", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for number, phase in enumerate(found["phases"]):
        counts = [f"{phase[name]:,}" for name in ("records_in", "kept", "filtered", "quarantined")]
        hours = f"{phase['audio_hours_in']:,.2f}"
        table.add_row(f"{number}: {', '.join(phase['stages'])}", *counts, hours, "done" if phase["complete"] else "")
    show(table)
    live = found["live"]
    if live is not None:
        of = "" if live["expected"] is None else f" of {live['expected']:,}"
        left = "" if live["eta_s"] is None else f", {_duration(live['eta_s'])} left"
        show(
            f"phase {live['phase']}: {live['records_in']:,}{of} records, {live['records_per_s']:,.1f} records/s, "
            f"{live['rtfx']:,.1f} times real time{left}"
        )
    for kind in found["failures"]:
        show(f"failed: {kind['records']:,} {kind['code']} at {kind['stage']}")
    if found["status"] == "dead":
        show("The driver was killed; the same command goes on with this run.")


def _duration(seconds: float) -> str:
    minutes, _ = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{round(seconds)} s"
