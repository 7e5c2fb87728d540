"""`curate quarantine`: lists the records that failed, shows why, and retries them once the cause is fixed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import click

from curate.cli.run_origin import from_run, origin_of_run
from curate.cli.session import Session, pass_session


def _chooses(verb: Callable[..., None]) -> Callable[..., None]:
    """Add the run directory and the options that choose failed records to a verb."""
    verb = click.option("--stage", help="Only records that failed at this stage.")(verb)
    verb = click.option("--code", help="Only records with this code.")(verb)
    return click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))(verb)


@click.group()
def quarantine() -> None:
    """List the records that failed in a run, show why, or retry them."""


@quarantine.command("list")
@_chooses
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_session
def list_(session: Session, run_dir: Path, code: str | None, stage: str | None, as_json: bool) -> None:
    """Count the failed records of a run by stage and code, each with an example."""
    from rich.table import Table

    from curate.engine import Retry, RunReader

    kinds = [
        {**kind, "meaning": session.host.error_codes.get(kind["code"]) or session.host.unannounced(kind["code"])}
        for kind in RunReader(run_dir).failure_kinds(Retry(code, stage))
    ]
    if as_json:
        click.echo(json.dumps(kinds, indent=1, ensure_ascii=False))
        return
    if not kinds:
        session.console.print("no record has failed")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("stage", "code", "records", "meaning"):
        table.add_column(heading, justify="right" if heading == "records" else "left", overflow="fold")
    for kind in kinds:
        table.add_row(kind["stage"], kind["code"], f"{kind['records']:,}", kind["meaning"])
    session.console.print(table)
    session.console.print("\nExamples:")
    for kind in kinds:  # not cut into lines, so that paths and ids can be copied
        session.console.print(f"  {kind['code']}: {kind['example']}: {kind['message']}", soft_wrap=True)
    run = shlex.quote(str(run_dir))
    session.console.print(
        f"\nRecords with traceback: curate quarantine show {run}\n"
        f"Once the cause is fixed: curate quarantine retry {run}",
        soft_wrap=True,
    )


@quarantine.command()
@_chooses
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, help="Maximum number of records.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@pass_session
def show(
    session: Session,
    run_dir: Path,
    ids: tuple[str, ...],
    code: str | None,
    stage: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show failed records as the stage received them, with message and traceback."""
    from itertools import islice

    from curate.engine import Retry, RunReader
    from curate.errors import UsageError

    failed = RunReader(run_dir).failed(Retry(code, stage))
    chosen = (note for note in failed if not ids or note["_id"] in ids)
    found = list(islice(chosen, limit))
    if ids and not found:
        raise UsageError(f"{run_dir} has no failed record {', '.join(ids)}; see curate quarantine list {run_dir}")
    for note in found:
        if as_json:
            click.echo(json.dumps(note, ensure_ascii=False))
            continue
        tries = "once" if note["attempts"] == 1 else f"{note['attempts']} times"
        headline = f"{note['_id']}: {note['code']} at {note['stage']}, tried {tries}: {note['message']}"
        session.console.print(headline, soft_wrap=True)
        session.console.print(json.dumps(note["record"], ensure_ascii=False), soft_wrap=True)
        if note["traceback"]:
            session.console.print(note["traceback"].rstrip(), soft_wrap=True)
        session.console.print()


@quarantine.command()
@_chooses
@from_run
@click.option("--max-failures", type=click.IntRange(min=0), help="Stop when more records than this have failed.")
@click.option("--max-failure-ratio", type=click.FloatRange(0, 1), help="Stop when a larger share has failed.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, and nothing else.")
@pass_session
def retry(
    session: Session,
    run_dir: Path,
    code: str | None,
    stage: str | None,
    pipeline: Path | None,
    executor: str | None,
    allow_imports: bool,
    max_failures: int | None,
    max_failure_ratio: float | None,
    as_json: bool,
) -> None:
    """Retry failed records, and nothing else; the published files are as if the records had never failed.

    Settings and inputs must be unchanged, but for stages that only failed records have met: these may be corrected.
    Plugins-files are those of the run, unless others are given. Stages after a gather work on all records again.
    """
    from curate.cli.run import asked_budget, run_configured
    from curate.config import load_pipeline
    from curate.engine import Retry, RunOptions

    place = run_dir.absolute()
    session, file, folder, origin = origin_of_run(session, place, pipeline)
    with chdir(folder):  # relative paths in the file are relative to it
        configured = load_pipeline(
            file,
            host=session.host,
            sets=origin.get("sets", ()),
            executor=executor or origin.get("executor"),
            run_dir=place,
            allow_imports=allow_imports,
        )
        options = RunOptions(
            audio_memory_bytes=configured.audio_memory_bytes,
            spool_directory=configured.spool_directory,
            spool_bytes=configured.spool_bytes,
            budget=asked_budget(configured.budget, max_failures, max_failure_ratio),
            retry=Retry(code, stage),
        )
        run_configured(session, configured, options, as_json=as_json)
