"""The listing of registered extensions, a table for each kind."""

from __future__ import annotations

import json
from typing import Any

import attrs
import click

from curate.cli.session import Session
from curate.plugin.references import Reference
from curate.plugin.registry import Registry


def show_references(session: Session, known: Registry[Any], *, as_json: bool) -> None:
    """Print the names that a pipeline file may use, and the plugins that announce them."""
    rows: list[tuple[str, Reference]] = [(known.shortest_name(reference), reference) for reference in known]
    if as_json:
        listed = [{"use": use, "qualified_name": ref.qualified_name, **attrs.asdict(ref)} for use, ref in rows]
        click.echo(json.dumps(listed, indent=2))
        return
    table = new_table("name", "what it does", "owner", "extra")
    for use, reference in rows:
        table.add_row(use, reference.summary, reference.distribution, reference.extra or "")
    session.console.print(table)


def new_table(*headings: str) -> Any:
    """Return a table without lines, whose cells are folded rather than cut."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
