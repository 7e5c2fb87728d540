"""`curate compare`: the settings in which two runs differ, and the records that ended differently."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from curate.cli.listing import new_table
from curate.cli.session import Session, pass_session
from curate.plural import counted

if TYPE_CHECKING:
    from curate.report.comparison import Comparison, RunSide


@click.command()
@click.argument("run_a", metavar="RUN_A", type=click.Path(path_type=Path))
@click.argument("run_b", metavar="RUN_B", type=click.Path(path_type=Path))
@click.option("--limit", default=20, show_default=True, help="How many changed records to list; 0: all.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every changed record.")
@pass_session
def compare(session: Session, run_a: Path, run_b: Path, limit: int, as_json: bool) -> None:
    """Compare two runs: settings, records that ended differently, error rates, speed."""
    from curate.report.comparison import comparing

    with comparing(run_a, run_b) as compared:
        for problem in compared.problems:
            session.messages.print(f"warning: {problem}", soft_wrap=True)
        if as_json:
            _print_json(compared)
        else:
            _show(session, compared, limit or None)


def _print_json(compared: Comparison) -> None:
    """Print everything; the changed records are streamed, because there may be many."""
    head = {
        "a": attrs.asdict(compared.a),
        "b": attrs.asdict(compared.b),
        "settings": [attrs.asdict(setting) for setting in compared.settings],
        "fates": [{"a": a, "b": b, "records": count} for (a, b), count in sorted(compared.moved.items())],
        "only_in_a": compared.only_in_a,
        "only_in_b": compared.only_in_b,
        "error_rates": None if compared.rates is None else attrs.asdict(compared.rates),
    }
    click.echo(json.dumps(head, indent=1)[:-2] + ',\n "changed": [', nl=False)
    separator = "\n  "
    for change in compared.changes():
        click.echo(separator + json.dumps(attrs.asdict(change)), nl=False)
        separator = ",\n  "
    click.echo("\n ]\n}")


def _show(session: Session, compared: Comparison, limit: int | None) -> None:
    show = session.console.print
    show(_sides(compared.a, compared.b))
    show()
    if compared.settings:
        table = new_table("stage", "setting", "A", "B")
        for setting in compared.settings:
            table.add_row(setting.stage or "(run)", setting.name, _written(setting.a), _written(setting.b))
        show(table)
    else:
        show("The settings, inputs and versions are the same.")
    show()
    _show_fates(session, compared)
    if compared.changed:
        show()
        table = new_table("record", "in A", "in B")
        for change in compared.changes(limit):
            table.add_row(change.id, *(_end(end.fate, end.stage, end.because) for end in (change.a, change.b)))
        show(table)
        if limit is not None and compared.changed > limit:
            show(f"{compared.changed - limit:,} more: --limit 0 or --json shows all of them")


def _show_fates(session: Session, compared: Comparison) -> None:
    show = session.console.print
    both = sum(compared.moved.values())
    if not both:
        show("No record is in both runs: their ids, <input>:<line>, have nothing in common.", soft_wrap=True)
        return
    moved = [(a, b, count) for (a, b), count in sorted(compared.moved.items()) if a != b]
    show(f"{compared.changed:,} of {counted(both)} ended differently.")
    for a, b, count in moved:
        show(f"  {count:,} {a} in A, {b} in B")
    for count, here, there in ((compared.only_in_a, "A", "B"), (compared.only_in_b, "B", "A")):
        if count:
            show(f"  {count:,} in {here} and not in {there}")
    rates = compared.rates
    if rates is not None and (rates.better or rates.worse):
        show(
            f"Error rates of {counted(rates.records)}: {rates.mean_a:.4f} on average in A, {rates.mean_b:.4f} in B; "
            f"{rates.better:,} lower, {rates.worse:,} higher",
            soft_wrap=True,
        )


def _sides(a: RunSide, b: RunSide) -> Any:
    table = new_table("", "A", "B")
    rows: Sequence[tuple[str, str]] = (
        ("run", "run_dir"),
        ("state", "state"),
        ("in", "records_in"),
        ("kept", "kept"),
        ("filtered", "filtered"),
        ("quarantined", "quarantined"),
        ("hours kept", "kept_hours"),
        ("median error rate", "error_rate"),
        ("times real time", "rtfx"),
        ("seconds of work", "worked_s"),
    )
    for title, name in rows:
        values = [getattr(side, name) for side in (a, b)]
        if any(value is not None for value in values):
            table.add_row(title, *map(_number, values))
    return table


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _written(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]} …"


def _end(fate: str, stage: str, because: str) -> str:
    return f"{fate} at {stage}: {because}" if stage else fate
