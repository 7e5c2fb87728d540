"""`curate plan`: check a pipeline and show what a run would do, without loading or writing anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from curate.cli.session import Session, pass_session
from curate.plan import Plan, PlannedStage

_Command = TypeVar("_Command", bound=Callable[..., Any])


def pipeline_options(command: _Command) -> _Command:
    """Add what every verb takes that reads a pipeline file."""
    options = (
        click.argument("file", metavar="PIPELINE.yaml", type=click.Path(path_type=Path)),
        click.option(
            "--set",
            "sets",
            metavar="PATH=VALUE",
            multiple=True,
            help="Change a setting: stages.asr.batch_size=32, vars.manifest=my.jsonl. Can be repeated.",
        ),
        click.option("--executor", metavar="NAME", help="Where to run: local, or what a plugin provides."),
        click.option("--run-dir", type=click.Path(path_type=Path), help="Where results lie; runs/<name> by default."),
        click.option(
            "--allow-imports",
            is_flag=True,
            help="Let the file name classes that no plugin announces, package.module:Class.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@pipeline_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_session
def plan(
    session: Session,
    file: Path,
    sets: tuple[str, ...],
    executor: str | None,
    run_dir: Path | None,
    allow_imports: bool,
    as_json: bool,
) -> None:
    """Check a pipeline and show what a run would do."""
    from curate.config import load_pipeline

    configured = load_pipeline(
        file, host=session.host, sets=sets, executor=executor, run_dir=run_dir, allow_imports=allow_imports
    )
    with configured.placed():
        planned = configured.pipeline.plan(configured.executor or "local", host=session.host)
    if as_json:
        click.echo(json.dumps(planned.to_dict(), indent=2, ensure_ascii=False))
    else:
        _show(session, planned)


def _show(session: Session, planned: Plan) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("phase", "hop", "stage", "reads", "writes", "resources", "workers"):
        table.add_column(heading, overflow="fold")
    for phase in planned.phases:
        hop_of = {stage.name: number for number, hop in enumerate(phase.hops) for stage in hop.stages}
        for stage in phase.stages():
            table.add_row(str(phase.number), str(hop_of.get(stage.name, "")), stage.name, *_columns(stage))
    session.console.print(table)
    session.console.print(f"fingerprint {planned.fingerprint}")


def _columns(planned: PlannedStage) -> tuple[str, str, str, str]:
    stage = planned.stage
    written = stage.writes()
    resources = ", ".join(f"{name}={amount}" for name, amount in stage.resources.to_dict().items())
    in_worker = planned.kind == "processing"
    return (
        ", ".join(sorted(stage.reads())),
        "does not say" if written is None and in_worker else ", ".join(sorted(written or ())),
        (resources or "cpus=1") if in_worker else "",
        str(stage.workers or "") if in_worker else "",
    )
