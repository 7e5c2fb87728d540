"""`curate executors`: lists the executors."""

from __future__ import annotations

import click

from curate.cli.listing import show_references
from curate.cli.session import Session, pass_session


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_session
def executors(session: Session, as_json: bool) -> None:
    """List the executors: where a pipeline can run."""
    show_references(session, session.host.executors, as_json=as_json)
