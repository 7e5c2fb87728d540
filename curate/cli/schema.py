"""`curate schema`: prints the JSON schema of pipeline files, for editors."""

from __future__ import annotations

import json

import click

from curate.cli.session import Session, pass_session


@click.command()
@pass_session
def schema(session: Session) -> None:
    """Print a JSON schema of pipeline files, with the stages of the installed plugins."""
    from curate.config.schema import pipeline_schema

    click.echo(json.dumps(pipeline_schema(session.host), indent=1))
