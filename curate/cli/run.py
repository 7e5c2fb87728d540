"""`curate run`: run a pipeline to its end, or go on with a run that was interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from curate.cli.plan import pipeline_options
from curate.cli.session import Session, pass_session


@click.command()
@pipeline_options
@pass_session
def run(
    session: Session,
    file: Path,
    sets: tuple[str, ...],
    executor: str | None,
    run_dir: Path | None,
    allow_imports: bool,
) -> None:
    """Run a pipeline to its end. Started again in the same run directory, it goes on where it was."""
    from curate.cli.progress import Progress
    from curate.config import load_pipeline

    configured = load_pipeline(
        file, host=session.host, sets=sets, executor=executor, run_dir=run_dir, allow_imports=allow_imports
    )
    progress = None if session.quiet else Progress(session.messages)
    with nullcontext() if progress is None else progress, session.host.observed_by(*filter(None, (progress,))):
        result = configured.pipeline.run(configured.executor or "local", run_dir=configured.run_dir, host=session.host)
    show_summary(session, result.summary, result.run_dir)


def show_summary(session: Session, summary: Mapping[str, Any], run_dir: Path | None) -> None:
    """Print what a run came to: the stages, the balance, the failures, the files."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    for heading in ("in", "out", "filtered", "quarantined", "busy"):
        table.add_column(heading, justify="right")
    for stage in summary["by_stage"].values():
        counts = (f"{stage[name] or '':,}" if stage[name] else "" for name in ("filtered", "quarantined"))
        busy = f"{stage['busy_s']:.1f} s" if stage["busy_s"] else ""
        table.add_row(stage["name"], f"{stage['records_in']:,}", f"{stage['records_out']:,}", *counts, busy)
    session.console.print(table)
    session.console.print()
    session.console.print(_balance(summary))
    if summary["failures"]:
        failures = ", ".join(f"{count:,} {code}" for code, count in summary["failures"].items())
        where = f" (see {run_dir / 'quarantine'})" if run_dir is not None else ""
        session.console.print(f"Quarantined: {failures}{where}", soft_wrap=True)
    for path in summary["outputs"]:
        session.console.print(f"Wrote {path}", soft_wrap=True)


def _balance(summary: Mapping[str, Any]) -> Any:
    """Return the identity of the books as a table: in + children = kept + filtered + quarantined + split parents."""
    from rich.table import Table

    hours = summary["audio_hours"]
    terms = [("in", "records_in", ""), ("children", "children", "+"), ("kept", "kept", "=")]
    terms += [
        ("filtered", "filtered", "+"),
        ("quarantined", "quarantined", "+"),
        ("split_parents", "split_parents", "+"),
    ]
    shown = [term for term in terms if summary[term[1]] or term[0] not in ("children", "split_parents")]
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name, _, sign in shown:
        table.add_column(f"{sign} {name.replace('_', ' ')}".strip(), justify="right")
    table.add_row("records", *(f"{summary[count]:,}" for _, count, _ in shown))
    heard_in = hours["in"] + hours["measured"]
    table.add_row("hours", *(f"{heard_in if name == 'in' else hours[name]:,.4f}" for name, _, _ in shown))
    return table
