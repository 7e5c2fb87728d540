"""`curate plugins`: lists the installed plugins, what they provide and their errors; `new` writes one."""

from __future__ import annotations

import json
from typing import Any

import click

from curate.cli.new_plugin import new_plugin
from curate.cli.session import Session
from curate.plugin import PluginStatus

_STYLES = {"active": "green", "failed": "bold red", "disabled": "dim"}


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def plugins(context: click.Context, as_json: bool) -> None:
    """List the plugins, what they provide and their errors; or write one of your own."""
    if context.invoked_subcommand is None:
        _list(context.obj, as_json=as_json)


plugins.add_command(new_plugin)


def _list(session: Session, *, as_json: bool) -> None:
    rows = session.host.rows()
    if as_json:
        click.echo(json.dumps([as_dict(row) for row in rows], indent=2))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("name", "version", "status", "provides"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        provides = "\n".join(f"{kind}: {', '.join(names)}" for kind, names in row.provides().items() if names)
        status = Text(row.status, style=_STYLES[row.status])
        table.add_row(row.distribution, row.version or "", status, row.error or provides)
    session.console.print(table)
    if any(row.status == "failed" for row in rows):
        session.messages.print("The tracebacks of failed plugins: curate plugins --json")


def as_dict(row: PluginStatus) -> dict[str, Any]:
    """Return a row as `--json` prints it."""
    return {
        "name": row.distribution,
        "version": row.version,
        "entry": row.entry,
        "module": row.module,
        "status": row.status,
        "error": row.error,
        "traceback": row.traceback,
        "provides": row.provides(),
    }
