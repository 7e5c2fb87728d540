"""`curate run`: runs a pipeline to its end, or resumes a run that was interrupted."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from curate.cli.pipeline_file import origin_of, reads_pipeline
from curate.cli.session import Session

if TYPE_CHECKING:
    from curate.config import Configured
    from curate.engine import ErrorBudget, RunOptions


@click.command()
@reads_pipeline
@click.option("--max-failures", type=click.IntRange(min=0), help="Stop when more records than this have failed.")
@click.option(
    "--max-failure-ratio",
    type=click.FloatRange(0, 1),
    help="Stop when a larger share than this has failed, of 200 records or more; by default 0.01 or 100 records.",
)
@click.option(
    "--fork",
    type=click.Path(path_type=Path),
    metavar="NEW_DIR",
    help="Begin a new run there that takes over the phases of --run-dir that have not changed.",
)
@click.option("--grown", is_flag=True, help="Resume although the last input has more lines at its end than before.")
@click.option("--checksum-inputs", is_flag=True, help="Compare the inputs by their sha256, not by size and time.")
@click.option(
    "--audio-memory", metavar="SIZE", help="The decoded audio that each worker holds at most; 256MB by default."
)
@click.option(
    "--spool-dir",
    type=click.Path(path_type=Path),
    help="Where decoded recordings lie that are too long for memory; in the run directory by default.",
)
@click.option("--spool-gb", type=float, metavar="GB", help="Their size on each node at most; 32 by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, and nothing else.")
@click.option("--report/--no-report", default=True, help="Whether to write report.html into the run directory.")
def run(
    session: Session,
    configured: Configured,
    as_json: bool,
    max_failures: int | None,
    max_failure_ratio: float | None,
    fork: Path | None,
    grown: bool,
    checksum_inputs: bool,
    audio_memory: str | None,
    spool_dir: Path | None,
    spool_gb: float | None,
    report: bool,
) -> None:
    """Run a pipeline to its end. Started again in the same run directory, it resumes the run."""
    from curate.engine import RunOptions
    from curate.pipeline import parse_audio_memory, parse_spool_gb

    options = RunOptions(
        budget=asked_budget(configured.budget, max_failures, max_failure_ratio),
        grown=grown,
        checksums=checksum_inputs,
        fork=fork,
        origin=origin_of(click.get_current_context()),
        audio_memory_bytes=(
            configured.audio_memory_bytes if audio_memory is None else parse_audio_memory(audio_memory)
        ),
        spool_directory=configured.spool_directory if spool_dir is None else spool_dir,
        spool_bytes=configured.spool_bytes if spool_gb is None else parse_spool_gb(spool_gb),
    )
    run_configured(session, configured, options, as_json=as_json, report=report)


def asked_budget(budget: ErrorBudget, max_failures: int | None, max_failure_ratio: float | None) -> ErrorBudget:
    """Return the budget of the file with the changes of the command line."""
    asked = {"max_failures": max_failures, "max_failure_ratio": max_failure_ratio}
    return attrs.evolve(budget, **{name: value for name, value in asked.items() if value is not None})


def run_configured(
    session: Session, configured: Configured, options: RunOptions, *, as_json: bool, report: bool = True
) -> None:
    """Run a pipeline with progress and signals, and print its results."""
    from curate.cli.decoder_notes import quiet_decoders
    from curate.cli.interruption import ResumeHint, orderly_stop
    from curate.cli.progress import LiveProgress, progress_on

    resume_hint = ResumeHint()
    shown = False
    with ExitStack() as stack:
        stack.enter_context(resume_hint.advised())
        stack.enter_context(session.host.observed_by(resume_hint))
        if not session.quiet:
            stack.enter_context(quiet_decoders(session))
            models = [stage.name for stage in configured.pipeline.stages if hasattr(stage, "make_model")]
            progress = stack.enter_context(
                progress_on(session.messages, as_json=session.json_lines, stop=options.stop, models=models)
            )
            shown = isinstance(progress, LiveProgress)
            stack.enter_context(session.host.observed_by(progress))
        stack.enter_context(orderly_stop(options.stop, shown=shown))
        stack.enter_context(configured.located())
        result = configured.pipeline.run(
            configured.executor or "local", run_dir=configured.run_dir, host=session.host, options=options
        )
    if not as_json:
        show_summary(session, result.summary, result.run_dir)
    written = None if result.run_dir is None or not report else _report(session, result.run_dir)
    if as_json:
        click.echo(json.dumps(result.summary, indent=1))
    elif written is not None:
        session.console.print(f"Report: {written}", soft_wrap=True)
        _show_refilter(session, written.parent)
    if result.problem:
        from curate.cli.failure import report_problem

        click.get_current_context().exit(report_problem(result.problem))


def _show_refilter(session: Session, run_dir: Path) -> None:
    """Show how the threshold of a filter is changed, and which phases that does not repeat."""
    from curate.engine import RunReader
    from curate.report.environment import phases_before

    run = RunReader(run_dir)
    filters = [name for name, own in run.settings.items() if isinstance(own.get("expression"), str)]
    if not filters:
        return
    before = phases_before(run, filters[-1])
    all_again = " (all stages run again; `checkpoint: true` at the stage before the filter avoids that)"
    cost = f", without repeating {before}" if before else all_again
    expression = " ".join(run.settings[filters[-1]]["expression"].split())
    command = f"curate refilter {shlex.quote(str(run_dir))} {shlex.quote(expression)}"
    session.console.print(f"Other thresholds{cost}: {command}", soft_wrap=True)


def _report(session: Session, run_dir: Path) -> Path | None:
    """Write the report of a finished run; a report that fails does not make the run fail."""
    from curate.report import write_report

    try:
        return write_report(run_dir, host=session.host)
    except Exception as error:  # noqa: BLE001 (whatever it is, the run is finished)
        message = " ".join(f"{type(error).__name__}: {error}".split())
        session.messages.print(
            f"the run is finished, but its report could not be written ({message}); try: curate report {run_dir}",
            soft_wrap=True,
        )
        return None


def show_summary(session: Session, summary: Mapping[str, Any], run_dir: Path | None) -> None:
    """Print the results of a run: the stages, why records left them, the balance, the files."""
    show = session.console.print
    show(_stages(summary))
    reasons = list(_reasons(summary))
    if reasons:
        show()
        show(_table(("left at", "because", "records", "hours"), reasons, folded=2))
    show()
    show(_balance(summary))
    for what in ("filtered", "quarantined"):
        if summary[what] and run_dir is not None:
            folder = run_dir / ("quarantine" if what == "quarantined" else what)
            show(f"{what.capitalize()}: see {folder}", soft_wrap=True)
    for path in summary["outputs"]:
        show(f"Wrote {path}", soft_wrap=True)


def _stages(summary: Mapping[str, Any]) -> Any:
    rows: list[tuple[str, ...]] = []
    for stage in summary["by_stage"].values():
        counts = [f"{stage[name]:,}" if stage[name] else "" for name in ("filtered", "quarantined")]
        busy = f"{stage['busy_s']:,.1f} s" if stage["busy_s"] else ""
        rows.append((stage["name"], f"{stage['records_in']:,}", f"{stage['records_out']:,}", *counts, busy))
    return _table(("stage", "in", "out", "filtered", "quarantined", "busy"), rows, folded=1)


_SHOWN_REASONS = 8
"""The maximum number of reasons shown for a stage; `summary.json` has more of them."""


def _reasons(summary: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each stage and reason, the most frequent first."""
    for stage in summary["by_stage"].values():
        name = stage["name"]
        for reasons in (stage["codes"], stage["reasons"]):
            rows = list(reasons.items())
            if len(rows) > _SHOWN_REASONS:
                rest = [counts for _, counts in rows[_SHOWN_REASONS - 1 :]]
                added = {what: sum(counts[what] for counts in rest) for what in ("records", "audio_hours")}
                rows = [*rows[: _SHOWN_REASONS - 1], (f"{len(rest)} more reasons (see summary.json)", added)]
            for reason, counts in rows:
                yield name, reason, f"{counts['records']:,}", f"{counts['audio_hours']:,.4f}"
                name = ""


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, folded: int) -> Any:
    """Return a table whose first `folded` columns hold text, which gives way on a narrow terminal; numbers do not."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        if number < folded:
            table.add_column(heading, overflow="fold")
        else:
            table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _balance(summary: Mapping[str, Any]) -> Any:
    """Return the identity of the books as a table: in + children = kept + filtered + quarantined + split parents."""
    from rich.table import Table

    hours = summary["audio_hours"]
    terms = [("in", "records_in", ""), ("children", "children", "+"), ("kept", "kept", "=")]
    terms += [
        ("filtered", "filtered", "+"),
        ("quarantined", "quarantined", "+"),
        ("split_parents", "split_parents", "+"),
    ]
    shown = [term for term in terms if summary[term[1]] or term[0] not in ("children", "split_parents")]
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name, _, sign in shown:
        table.add_column(f"{sign} {name.replace('_', ' ')}".strip(), justify="right")
    table.add_row("records", *(f"{summary[count]:,}" for _, count, _ in shown))
    hours_in = hours["in"] + hours["measured"]
    table.add_row("hours", *(f"{hours_in if name == 'in' else hours[name]:,.4f}" for name, _, _ in shown))
    return table
