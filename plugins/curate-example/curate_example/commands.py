"""A verb of the command line is a click command."""

from __future__ import annotations

import click

from curate.engine import RunReader


@click.command()
@click.argument("run_dir", metavar="RUN")
def kept(run_dir: str) -> None:
    """Print the texts of a run's kept records."""
    for record in RunReader(run_dir).records():
        click.echo(record.get("text", ""))
