"""`curate refilter`: forks a run with another filter expression, which costs no transcription."""

from __future__ import annotations

import itertools
import json
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curate.cli.run_origin import from_run, origin_of_run
from curate.cli.session import Session, pass_session

if TYPE_CHECKING:
    from curate.pipeline import Pipeline


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("expression")
@click.option("--stage", metavar="NAME", help="The filter, if the pipeline has several.")
@click.option(
    "--fork", type=click.Path(path_type=Path), metavar="NEW_DIR", help="The new run directory; RUN-2 by default."
)
@from_run
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, and nothing else.")
@pass_session
def refilter(
    session: Session,
    run_dir: Path,
    expression: str,
    stage: str | None,
    fork: Path | None,
    pipeline: Path | None,
    executor: str | None,
    allow_imports: bool,
    as_json: bool,
) -> None:
    """Filter the records of a run by another EXPRESSION, such as 'wer <= 0.5 and snr_db > 10', into a new run.

    The short form of `curate run … --set stages.<filter>.expression=… --fork NEW_DIR`: phases before the filter are
    taken over, and RUN stays as it is.
    """
    from curate.cli.run import run_configured
    from curate.config import load_pipeline
    from curate.engine import RunOptions

    place = run_dir.absolute()
    new = free_directory(place) if fork is None else fork.absolute()
    session, file, folder, origin = origin_of_run(session, place, pipeline)
    with chdir(folder):  # relative paths in the file are relative to it
        made: dict[str, Any] = {
            "host": session.host,
            "executor": executor or origin.get("executor"),
            "run_dir": place,
            "allow_imports": allow_imports,
        }
        sets = list(origin.get("sets", ()))
        first = load_pipeline(file, sets=sets, **made)
        name = _filter_of(first.pipeline, stage)
        sets.append(f"stages.{name}.expression={json.dumps(expression, ensure_ascii=False)}")
        configured = load_pipeline(file, sets=sets, **made)
        options = RunOptions(
            budget=configured.budget,
            fork=new,
            origin={**origin, "file": str(file), "folder": str(folder), "sets": sets, "executor": made["executor"]},
            audio_memory_bytes=configured.audio_memory_bytes,
            spool_directory=configured.spool_directory,
            spool_bytes=configured.spool_bytes,
        )
        run_configured(session, configured, options, as_json=as_json)


def free_directory(run_dir: Path) -> Path:
    """Return the first of RUN-2, RUN-3, … that does not exist."""
    names = (run_dir.with_name(f"{run_dir.name}-{number}") for number in itertools.count(2))
    return next(name for name in names if not name.exists())


def _filter_of(pipeline: Pipeline, asked: str | None) -> str:
    """Return the name in the plan of the filter to change.

    Raises:
        UsageError: there is none, or there are several and none was named.
    """
    from curate.composite import unique_names
    from curate.errors import UsageError
    from curate.suggest import closest

    names = unique_names([stage.name for stage in pipeline.stages])
    filters = [
        name
        for name, stage in zip(names, pipeline.stages, strict=True)
        if isinstance(getattr(stage, "expression", None), str)
    ]
    if asked is not None:
        if asked not in filters:
            raise UsageError(f"--stage {asked}: the pipeline has no such filter: {closest(asked, filters)}")
        return asked
    if not filters:
        raise UsageError("the pipeline has no stage with an `expression`; add a quality_filter and fork the run")
    if len(filters) > 1:
        raise UsageError(f"the pipeline has {len(filters)} filters: name one with --stage {', --stage '.join(filters)}")
    return filters[0]
