"""`curate plan --estimate`: the time and the price of a run, before it runs."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from curate.cli.session import Session
from curate.durations import duration_text
from curate.errors import UsageError
from curate.plural import counted

if TYPE_CHECKING:
    from curate.config import Configured
    from curate.estimate import Forecast
    from curate.plan import Plan

_OPTIONS = (
    click.option(
        "--estimate",
        is_flag=True,
        help="Estimate the time and the price of the run from a sample of its input; publishes nothing.",
    ),
    click.option(
        "--sample-s",
        type=click.FloatRange(min=0),
        help="How long the sample is processed, in seconds without loading models; 60 by default, 0: no sample.",
    ),
    click.option(
        "--from",
        "earlier",
        type=click.Path(path_type=Path),
        metavar="RUN_DIR",
        help="Take the figures of this run, finished or not, instead of a sample.",
    ),
    click.option(
        "--history",
        type=click.Path(path_type=Path),
        help="Take the speeds of stages that `curate bench` has measured from this file.",
    ),
    click.option(
        "--speed",
        "speeds",
        metavar="STAGE=X",
        multiple=True,
        help="Seconds of the input's audio in a second of one worker, instead of the measured ones. Can be repeated.",
    ),
    click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="The input is this long, not as it is."),
    click.option(
        "--price", "prices", metavar="NAME=X/h", multiple=True, help="Such as gpu=2.5/h, cpu=0.04/h. Can be repeated."
    ),
)


@attrs.frozen
class Estimating:
    """The options of an estimate, as they were given."""

    asked: bool
    sample_s: float | None
    earlier: Path | None
    history: Path | None
    speeds: Sequence[str]
    hours: float | None
    prices: Sequence[str]

    def check(self) -> None:
        """Check that no option is given without `--estimate`.

        Raises:
            UsageError: one is.
        """
        given = {
            "--sample-s": self.sample_s is not None,
            "--from": self.earlier is not None,
            "--history": self.history is not None,
            "--speed": bool(self.speeds),
            "--hours": self.hours is not None,
            "--price": bool(self.prices),
        }
        named = [option for option, is_given in given.items() if is_given]
        if named and not self.asked:
            raise UsageError(f"{named[0]} is an option of the estimate: add --estimate")
        if self.earlier is not None and self.sample_s:
            raise UsageError("--from takes the figures of a run, and --sample-s of a sample: leave one of them out")


def estimates(verb: Callable[..., None]) -> Callable[..., None]:
    """Add the options of the estimate to a verb, which receives them as `estimating`."""

    @functools.wraps(verb)
    def collecting(*arguments: Any, **options: Any) -> None:
        names = [field.name for field in attrs.fields(Estimating)]
        given = {name: options.pop("estimate" if name == "asked" else name) for name in names}
        verb(*arguments, estimating=Estimating(**given), **options)

    command: Callable[..., None] = collecting
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def show_estimate(session: Session, configured: Configured, asked: Estimating, *, as_json: bool) -> None:
    """Estimate a run and print the result."""
    from curate.cli.decoder_notes import quiet_decoders
    from curate.engine import RunOptions
    from curate.estimate import Prices, estimate, measured_speeds
    from curate.estimate.making import SAMPLE_S, is_alike

    def on_part(records: int, of: int) -> None:
        if not session.quiet:
            session.messages.print(f"processing a sample: {counted(records)} of {of:,}", soft_wrap=True)

    pipeline = configured.pipeline
    run_dir = configured.run_dir or Path("runs") / pipeline.name
    with configured.located(), quiet_decoders(session):
        planned = pipeline.plan(host=session.host)
        speeds = {} if asked.history is None else measured_speeds(asked.history, planned)
        earlier = asked.earlier
        if earlier is None and asked.sample_s is None and is_alike(run_dir, planned):
            earlier = run_dir
        found = estimate(
            pipeline,
            configured.executor or "local",
            run_dir=run_dir,
            sample_s=SAMPLE_S if asked.sample_s is None else asked.sample_s,
            earlier=earlier,
            speeds={**speeds, **dict(map(_speed, asked.speeds))},
            hours=asked.hours,
            prices=Prices.parse(asked.prices, _custom(planned)),
            host=session.host,
            options=RunOptions(
                budget=configured.budget,
                audio_memory_bytes=configured.audio_memory_bytes,
                spool_directory=configured.spool_directory,
                spool_bytes=configured.spool_bytes,
            ),
            on_part=on_part,
        )
    if as_json:
        figures_of = {"figures_of": None if earlier is None else str(earlier)}
        click.echo(json.dumps(found.to_dict() | figures_of, indent=2, ensure_ascii=False))
    else:
        _show(session, found, earlier)


def _speed(option: str) -> tuple[str, float]:
    name, _, written = option.partition("=")
    try:
        speed = float(written.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not name or not 0 < speed < float("inf"):
        raise UsageError(f"--speed {option}: write STAGE=X, such as asr=120: 120 seconds of audio in a second")
    return name, speed


def _custom(plan: Plan) -> list[str]:
    return sorted({name for stage in plan.stages for name in stage.stage.resources.custom})


def _show(session: Session, found: Forecast, earlier: Path | None) -> None:
    show, has_prices = session.console.print, found.price > 0
    show(_table(found, has_prices))
    show()
    size = found.size
    hours = "" if size.audio_s is None else f", {size.audio_s / 3600:,.2f} h of audio"
    show(f"Input: {round(size.records):,} records{hours} ({size.basis})", soft_wrap=True)
    show(f"Figures: {_figures(found, earlier)}", soft_wrap=True)
    loading = f", {duration_text(found.loading_s)} of it for loading models" if found.loading_s >= 1 else ""
    show(
        f"Time: {duration_text(found.wall_s)}{loading}; work of all workers: {duration_text(found.work_s)}",
        soft_wrap=True,
    )
    if has_prices:
        audio_s = size.audio_s
        each = f", {amount(found.price / (audio_s / 3600))} for an hour of audio" if audio_s else ""
        show(f"Price: {amount(found.price)}{each}", soft_wrap=True)
    limit = found.bottleneck
    if limit is not None:
        show(f"Bottleneck: {limit.stage}, {limit.share:.0%} of the time{_doubled(found)}", soft_wrap=True)
    for note in found.notes:
        show(f"note: {note}", soft_wrap=True)


def _table(found: Forecast, has_prices: bool) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("stage", overflow="fold")
    for heading in ("records", "work", "workers", "of the time", *(["price"] if has_prices else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in found.stages:
        cells = [
            "" if row.records is None else f"{round(row.records):,}",
            "not measured" if row.work_s is None else duration_text(row.work_s),
            str(row.workers),
            f"{row.wall_s / found.wall_s:.0%}" if found.wall_s else "",
            *([amount(row.price)] if has_prices else []),
        ]
        table.add_row(row.name, *cells)
    return table


def _figures(found: Forecast, earlier: Path | None) -> str:
    if earlier is not None:
        return f"{counted(found.sampled)} of the run in {earlier}"
    if not found.sampled:
        return "none was measured"
    sample = f"a sample of {counted(found.sampled)} in {counted(found.parts, 'part')}"
    if found.error is None:
        return f"{sample}, too few to say how exact: more with --sample-s"
    return f"{sample}; standard error of the work {found.error:.0%}"


def _doubled(found: Forecast) -> str:
    """Return the time and the price with more workers, in words."""
    limit = found.bottleneck
    if limit is None or limit.wall_s is None:
        return "; more workers do not change it"
    needs = f"{limit.cpus:g} cores" + (f" and {counted(round(limit.gpus), 'GPU')}" if limit.gpus else "")
    price = f", price {amount(limit.price)}" if limit.price else ""
    return (
        f"; with {counted(limit.workers, 'worker')} for it, which needs {needs}: {duration_text(limit.wall_s)}{price}"
    )


def amount(price: float) -> str:
    """Return a price with the digits that matter."""
    return f"{price:,.2f}" if price >= 1 or not price else f"{price:.2g}"
