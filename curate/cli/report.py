"""`curate report`: writes the report of a run."""

from __future__ import annotations

from pathlib import Path

import click

from curate.cli.session import Session, pass_session


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), help="The file; RUN/report.html by default.")
@pass_session
def report(session: Session, run_dir: Path, output: Path | None) -> None:
    """Write the report of a run: one HTML file that opens from disk. The run may have any status."""
    from curate.report import write_report

    session.console.print(f"Wrote {write_report(run_dir, output, host=session.host)}", soft_wrap=True)
