"""`curate report`: a run as a page to look at and to listen to."""

from __future__ import annotations

from pathlib import Path

import click

from curate.cli.session import Session, pass_session


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Where it goes; RUN/report.html by default.")
@pass_session
def report(session: Session, run_dir: Path, output: Path | None) -> None:
    """Write the report of a run: one HTML file that opens from disk. The run may be done, stopped or still going."""
    from curate.report import write_report

    session.console.print(f"Wrote {write_report(run_dir, output, host=session.host)}", soft_wrap=True)
