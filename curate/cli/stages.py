"""`curate stages`: lists the stages, or describes one of them."""

from __future__ import annotations

import json
from collections.abc import Collection

import attrs
import click

from curate.cli.listing import new_table, show_references
from curate.cli.session import Session, pass_session
from curate.cli.stage_details import StageSheet, stage_sheet


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_session
def stages(session: Session, name: str | None, as_json: bool) -> None:
    """List the stages, or show one: its settings, columns and an example."""
    if name is None:
        show_references(session, session.host.stages, as_json=as_json)
        return
    reference = session.host.stage(name)
    sheet = stage_sheet(reference, session.host.stages.shortest_name(reference))
    if as_json:
        click.echo(json.dumps(attrs.asdict(sheet), indent=2, default=str))
    else:
        _show(session, sheet)


def _show(session: Session, sheet: StageSheet) -> None:
    from rich.text import Text

    show = session.console.print
    show(Text.assemble((sheet.name, "bold"), f"  {sheet.summary}"))
    if sheet.description and sheet.description.rstrip(".") != sheet.summary.rstrip("."):
        show(sheet.description)
    show()
    facts = new_table("", "")
    facts.show_header = False
    facts.add_row("qualified", sheet.qualified_name)
    facts.add_row("class", sheet.target)
    facts.add_row("kind", sheet.role)
    facts.add_row("reads", _columns(sheet.reads, "depends on its settings"))
    facts.add_row(
        "writes", _columns(sheet.writes, "not declared" if sheet.reads is not None else "depends on its settings")
    )
    if sheet.extra:
        facts.add_row("extra", sheet.extra)
    show(facts)
    show()
    if sheet.settings:
        table = new_table("setting", "type", "default", "meaning")
        for one in sheet.settings:
            table.add_row(one.name, one.type, "(required)" if one.required else one.default, one.meaning)
        show(table)
        show()
    options = new_table("run-time option", "default")
    for option, value in sheet.run_time_options.items():
        options.add_row(option, repr(value))
    show(options)
    show()
    show(sheet.example)


def _columns(columns: Collection[str] | None, unknown: str) -> str:
    if columns is None:
        return f"({unknown})"
    return ", ".join(columns) or "(none)"
