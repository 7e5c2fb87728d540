"""`curate bench`: measures settings on your own data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from curate.cli.pipeline_file import reads_pipeline
from curate.cli.session import Session, pass_session
from curate.errors import UsageError

if TYPE_CHECKING:
    from curate.bench import ApproachReport, ApproachTrial, BatchSizeReport, Trial
    from curate.config import Configured

NOISE_OF_RUNS = 0.1
"""The share by which two runs of the same code differ in addition to the spread of the passes in each of them."""


_COMPARING = (
    click.option("--limit", default=200, show_default=True, help="How many records of the input to work on."),
    click.option("--repeats", default=3, show_default=True, help="How often each is measured; the median counts."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    click.option(
        "--plot", type=click.Path(path_type=Path), help="Also draw it: a path that ends with .svg, .png or .pdf."
    ),
    click.option(
        "--history",
        type=click.Path(path_type=Path),
        help="Where measurements are kept, to be compared with; runs/<name>.bench.jsonl by default.",
    ),
)


def _compares(verb: Callable[..., None]) -> Callable[..., None]:
    """Add the options of every comparison to a verb."""
    for option in reversed(_COMPARING):
        verb = option(verb)
    return verb


@click.group()
def bench() -> None:
    """Measure on your own data before choosing a setting."""


@bench.command("batch-size")
@reads_pipeline
@click.option("--stage", "stage_name", metavar="NAME", help="The stage; by default the first that works in batches.")
@click.option("--sizes", default="1,2,4,8,16,32,64", show_default=True, help="Batch sizes to try; 1 is always tried.")
@click.option("--budgets", default="", help="Also try length-aware batches of these seconds, for example 50,100,200.")
@click.option("--replicas", default="1", show_default=True, help="Numbers of workers to try each of them with.")
@_compares
def batch_size(
    session: Session,
    configured: Configured,
    stage_name: str | None,
    sizes: str,
    budgets: str,
    replicas: str,
    limit: int,
    repeats: int,
    as_json: bool,
    plot: Path | None,
    history: Path | None,
) -> None:
    """Find the batch size at which a stage is fastest on your records."""
    from curate.bench import bench_batch_sizes, save_plot
    from curate.bench.plot import check_plot

    if limit < 1 or repeats < 1:
        raise UsageError(f"--limit {limit} --repeats {repeats}: both are at least 1")
    if plot is not None:
        check_plot(plot)

    def print_trial(trial: Trial) -> None:
        if not session.quiet:
            session.messages.print(f"{trial.name}: {_wall(trial)}", soft_wrap=True)

    with configured.located():
        report = bench_batch_sizes(
            configured.pipeline,
            sizes=_numbers(sizes, "--sizes"),
            budgets=_numbers(budgets, "--budgets"),
            replicas=_numbers(replicas, "--replicas") or [1],
            stage=stage_name,
            executor=configured.executor or "local",
            limit=limit,
            repeats=repeats,
            history=history or Path("runs") / f"{configured.pipeline.name}.bench.jsonl",
            host=session.host,
            on_trial=print_trial,
        )
    best = report.best
    if plot is not None:
        save_plot(report, plot)
    if as_json:
        described = report.to_dict() | {"bounds": report.bounds, "yaml": report.yaml}
        before = None if report.before is None else report.before.to_dict()
        click.echo(
            json.dumps(described | {"best": {**best.setting, "replicas": best.replicas}, "before": before}, indent=2)
        )
        return
    _show(session, report)
    if plot is not None:
        session.console.print(f"Drawn in {plot}", soft_wrap=True)


@bench.command("approaches")
@reads_pipeline
@click.option(
    "--approaches", default="sequential,batched,processes,packed", show_default=True, help="Which to compare."
)
@click.option("--recogniser", help="Transcribe with this recogniser instead of the pipeline's.")
@click.option("--options", default="{}", metavar="JSON", help='Its settings, for example {"model": "tiny.en"}.')
@click.option("--stage", "stage_name", metavar="NAME", help="The ASR stage; by default the first.")
@click.option("--batch-size", default=8, show_default=True, help="The clips of a batch.")
@click.option("--workers", default=2, show_default=True, help="The processes of `processes`.")
@_compares
def compare_approaches(
    session: Session,
    configured: Configured,
    approaches: str,
    recogniser: str | None,
    options: str,
    stage_name: str | None,
    batch_size: int,
    workers: int,
    limit: int,
    repeats: int,
    as_json: bool,
    plot: Path | None,
    history: Path | None,
) -> None:
    """Compare one clip at a time with batches, with processes and with packed windows on your records."""
    from curate.bench import bench_approaches, save_plot
    from curate.bench.plot import check_plot

    if min(limit, repeats, batch_size, workers) < 1:
        raise UsageError("--limit, --repeats, --batch-size and --workers are at least 1")
    if plot is not None:
        check_plot(plot)
    try:
        settings: Any = json.loads(options)
    except ValueError as error:
        raise UsageError(f"--options {options}: {error}") from None

    def print_trial(one: ApproachTrial) -> None:
        if not session.quiet:
            session.messages.print(f"{one.name}: {_wall(one.trial)}", soft_wrap=True)

    with configured.located():
        report = bench_approaches(
            configured.pipeline,
            approaches=[one.strip() for one in approaches.split(",") if one.strip()],
            batch_size=batch_size,
            workers=workers,
            recogniser=recogniser,
            options=settings,
            stage=stage_name,
            limit=limit,
            repeats=repeats,
            history=history or Path("runs") / f"{configured.pipeline.name}.bench.jsonl",
            host=session.host,
            on_trial=print_trial,
        )
    if plot is not None:
        save_plot(report, plot)
    if as_json:
        before = None if report.before is None else report.before.to_dict()
        described = report.to_dict() | {"yaml": report.yaml, "best": report.best.approach, "before": before}
        click.echo(json.dumps(described, indent=2))
        return
    _show_approaches(session, report)
    if plot is not None:
        session.console.print(f"Drawn in {plot}", soft_wrap=True)


@bench.command("suggest")
@click.option("--gpu-memory", "gpu_memory_gb", type=float, required=True, metavar="GB", help="The memory limit.")
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("large", "medium", "small"),
    metavar="NAME[=GB]",
    help="A model, the preferred first: its size is in its name (small, medium, large), or given in GB in fp32. "
    "Can be repeated; by default large, medium, small.",
)
@click.option("--mean", "mean_s", default=5.0, show_default=True, help="The mean length of the records, in seconds.")
@click.option("--longest", "max_s", default=30.0, show_default=True, help="The longest record, in seconds.")
@click.option("--dtype", default="fp32", show_default=True, help="fp32, bf16 or fp16.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_session
def suggest_batches(
    session: Session,
    gpu_memory_gb: float,
    models: tuple[str, ...],
    mean_s: float,
    max_s: float,
    dtype: str,
    as_json: bool,
) -> None:
    """Choose the first model that fits into a memory limit, and its batches, by rules of thumb. Measures nothing."""
    from curate.batching import suggest

    sized = {name: size for name, _, size in (model.partition("=") for model in models)}
    if any(sized.values()):
        try:
            advice = suggest(gpu_memory_gb, {name: float(size) for name, size in sized.items()}, mean_s, max_s, dtype)
        except ValueError:
            raise UsageError("--model NAME=GB: give a number of GB to every model, or to none") from None
    else:
        advice = suggest(gpu_memory_gb, list(sized), mean_s, max_s, dtype)
    if as_json:
        click.echo(json.dumps(attrs.asdict(advice), indent=1))
        return
    show = session.console.print
    for reason in advice.reasons:
        show(f"{reason}.", soft_wrap=True)
    show(f"Model: {advice.model}. Write in the pipeline file, at the ASR stage:", soft_wrap=True)
    show(f"    batching: length\n    max_batch_s: {advice.max_batch_s:.0f}")
    show(
        f"With batching: static, batch_size: {advice.batch_size}. Then measure: curate bench batch-size", soft_wrap=True
    )


def _numbers(text: str, option: str) -> list[int]:
    try:
        numbers = [int(number) for number in text.split(",") if number.strip()]
    except ValueError:
        numbers = [0]
    if any(number < 1 for number in numbers):
        raise UsageError(f"{option} {text}: write whole numbers of at least 1 with commas between them, such as 1,8,16")
    return numbers


def _show(session: Session, report: BatchSizeReport) -> None:
    show = session.console.print
    show(f"Stage {report.stage}, {report.executor}: {report.records:,} records with {report.audio_s:,.1f} s of audio")
    if report.best.records < report.records:
        show(f"{report.records - report.best.records:,} of them failed, and do not count.")
    show(_table(report))
    for bound in report.bounds:
        show(f"Memory: {bound}.", soft_wrap=True)
    if report.before is not None:
        show(f"Compared with {report.before.when}.", soft_wrap=True)
    best = report.best
    if best.setting.get("batch_size") == 1:
        show("One record at a time is about as fast as any batch here.")
    show(f"Best: {best.name}. Write in the pipeline file, at the stage {report.stage}:", soft_wrap=True)
    show(report.yaml or "    (as it is)")


def _table(report: BatchSizeReport) -> Any:
    from rich.table import Table

    peak_of = next((trial.peak_of for trial in report.trials if trial.peak_of), "memory")
    columns = ["total", "transcription", "times real time", "padding", f"peak ({peak_of})"]
    table = Table(box=None, pad_edge=False)
    table.add_column("setting", overflow="fold")
    for heading in [*columns, *(["before"] if report.before is not None else [])]:
        table.add_column(heading, justify="right")
    for trial in report.trials:
        cells = [
            _seconds(trial.total_s),
            _wall(trial),
            "" if not trial.rtfx else f"{trial.rtfx:,.1f}",
            "" if trial.waste is None else f"{trial.waste:.1%}",
            "" if trial.peak_bytes is None else f"{trial.peak_bytes / 1e9:,.2f} GB",
        ]
        if report.before is not None:
            cells.append(_change(trial, report.before_of(trial)))
        table.add_row(trial.name, *cells)
    return table


def _show_approaches(session: Session, report: ApproachReport) -> None:
    from rich.table import Table

    show = session.console.print
    show(f"Stage {report.stage}: {report.records:,} records with {report.audio_s:,.1f} s of audio")
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("approach", no_wrap=True)
    has_gpu = any(one.vram_bytes is not None for one in report.trials)
    headings = ["clips", "total", "transcribing", "RTFx", "vs seq.", "RAM", *(["VRAM"] if has_gpu else [])]
    for heading in [*headings, "padding", "WER", "same", *(["before"] if report.before is not None else [])]:
        table.add_column(heading, justify="right", overflow="fold")
    for one in report.trials:
        trial, change, before = one.trial, report.change_of(one), report.before_of(one)
        cells = [
            str(one.windows),
            _seconds(trial.total_s),
            _wall(trial) + ("" if trial.spread is None else f" ±{trial.spread / 2:.0%}"),
            "" if one.rtfx is None else f"{one.rtfx:,.1f}",
            "" if one is report.sequential or change is None else f"{change:+.0%}",
            _gigabytes(one.ram_bytes),
            *([_gigabytes(one.vram_bytes)] if has_gpu else []),
            _share(trial.waste),
            "" if one.wer is None else f"{one.wer:.3f}",
            _share(one.equal_texts),
        ]
        if report.before is not None:
            cells.append(_change(trial, None if before is None else before.trial))
        table.add_row(one.name, *cells)
    show(table)
    if report.before is not None:
        show(f"Compared with {report.before.when}.", soft_wrap=True)
    best = report.best
    if best is report.sequential:
        show("Recommended: sequential. No other approach is clearly faster here without more errors.", soft_wrap=True)
    else:
        show(f"Recommended: {best.name}.", soft_wrap=True)
    if (packed := report.out_of_reach) is not None:
        show(
            f"Packed windows are {report.change_of(packed):+.0%}, but join clips of several recordings, which no stage "
            "does. With recordings that contain several clips, split_speech with mode: pack makes such windows.",
            soft_wrap=True,
        )
    show(f"Write in the pipeline file, at the stage {report.stage}:", soft_wrap=True)
    show(report.yaml)


def _gigabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e9:,.2f} GB"


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _wall(trial: Trial) -> str:
    if trial.transcription_s is None:
        return "out of memory"
    notes = [f"out of memory {trial.ooms} times"] if trial.ooms else []
    if trial.idle:
        notes.append(f"{trial.idle} of {trial.replicas} workers idle")
    return f"{trial.transcription_s:.3f} s" + (f" ({', '.join(notes)})" if notes else "")


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"


def _change(trial: Trial, before: Trial | None) -> str:
    """Return the change in speed of a setting since the last measurement, if it is larger than the noise of both."""
    if before is None or not trial.records_per_s or not before.records_per_s:
        return ""
    change = trial.records_per_s / before.records_per_s - 1
    if trial.spread is None or before.spread is None:
        return f"{change:+.0%} (noise unknown)"
    noise = trial.spread + before.spread + NOISE_OF_RUNS
    return f"{change:+.0%} ± {noise:.0%}" if abs(change) > noise else f"same (± {noise:.0%})"
