"""`curate plan`: checks a pipeline and shows the plan of a run, without loading anything; or estimates the run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from curate.cli.estimate import Estimating, estimates, show_estimate
from curate.cli.pipeline_file import reads_pipeline
from curate.cli.session import Session
from curate.plan import Plan, PlannedStage
from curate.stage import Stage

if TYPE_CHECKING:
    from curate.config import Configured


@click.command()
@reads_pipeline
@estimates
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(
    session: Session,
    configured: Configured,
    estimating: Estimating,
    as_json: bool,
) -> None:
    """Check a pipeline and show the plan of a run, or estimate its time and price."""
    estimating.check()
    if estimating.asked:
        show_estimate(session, configured, estimating, as_json=as_json)
        return
    with configured.located():
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
    for note in (*planned.notes, *_missing_packages(session, planned)):
        session.console.print(f"note: {note}", soft_wrap=True)
    session.console.print(f"fingerprint {planned.fingerprint}")


def _missing_packages(session: Session, planned: Plan) -> Iterator[str]:
    """Yield a sentence for each stage whose packages are not installed here; a worker elsewhere may have them."""
    from curate.plugin.missing_packages import missing_packages

    by_target = {reference.target: reference for reference in session.host.stages}
    recognisers = {reference.name: reference for reference in session.host.recognisers}
    for stage in planned.stages:
        cls = type(stage.stage)
        found = (
            by_target.get(f"{cls.__module__}:{cls.__qualname__}"),
            recognisers.get(getattr(stage.stage, "recogniser", "")),
        )
        for reference in found:
            missing = [] if reference is None else missing_packages(reference)
            if reference is not None and missing:
                what = f"{reference.distribution}[{reference.extra}]"
                yield f"{stage.name} needs {', '.join(missing)}, not installed here: pip install '{what}'"


def _amount(name: str, amount: Any) -> str:
    if name == "memory":
        return f"{amount / 1e9:g}GB"
    return f"{amount:g}" if isinstance(amount, float) else str(amount)


def _columns(planned: PlannedStage[Stage]) -> tuple[str, str, str, str]:
    stage = planned.stage
    written = stage.writes()
    resources = ", ".join(f"{name}={_amount(name, amount)}" for name, amount in stage.resources.to_dict().items())
    in_worker = planned.kind == "processing"
    return (
        ", ".join(sorted(stage.reads())),
        "not declared" if written is None and in_worker else ", ".join(sorted(written or ())),
        (resources or "cpus=1") if in_worker else "",
        str(stage.workers or "") if in_worker else "",
    )
