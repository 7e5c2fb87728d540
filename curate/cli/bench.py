"""`curate bench`: measure on your own data before choosing a setting."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import attrs
import click

from curate.asr import is_oom
from curate.cli.pipeline_file import reads_pipeline
from curate.cli.session import Session
from curate.errors import UsageError
from curate.plan import Plan
from curate.records import AudioBatch, Failed, Record, audio_ms
from curate.stage import ProcessingStage, Source, WorkerContext

if TYPE_CHECKING:
    from curate.config import Configured

_WITHIN = 0.97
"""A smaller batch that reaches so much of the best throughput is the better choice: it needs less memory."""


@attrs.frozen
class Measured:
    """What one setting came to.

    Args:
        setting: run-time options or settings of the stage.
        wall_s: the median of the repeats; None: it did not fit into memory.
        rtfx: seconds of audio for each second of work.
    """

    setting: dict[str, Any]
    wall_s: float | None
    rtfx: float | None


@click.group()
def bench() -> None:
    """Measure on your own data before choosing a setting."""


@bench.command("batch-size")
@reads_pipeline
@click.option("--stage", "stage_name", metavar="NAME", help="The stage; by default the first that works in batches.")
@click.option("--sizes", default="1,2,4,8,16,32,64", show_default=True, help="Batch sizes to try; 1 is always tried.")
@click.option("--budgets", default="", help="Also try length-aware batches of so many seconds, for example 50,100,200.")
@click.option("--limit", default=200, show_default=True, help="How many records of the input to work on.")
@click.option("--repeats", default=3, show_default=True, help="How often each is measured; the median counts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def batch_size(
    session: Session,
    configured: Configured,
    stage_name: str | None,
    sizes: str,
    budgets: str,
    limit: int,
    repeats: int,
    as_json: bool,
) -> None:
    """Find the batch size at which a stage is fastest on your records."""
    with configured.placed():
        plan = configured.pipeline.plan(configured.executor or "local", host=session.host)
    stage = _stage(plan, stage_name)
    settings: list[dict[str, Any]] = [{"batch_size": size} for size in sorted({1, *_numbers(sizes, "--sizes")})]
    settings += [{"batching": "length", "max_batch_s": float(s)} for s in sorted(_numbers(budgets, "--budgets"))]
    measured = measure(stage, _records(plan, limit), settings, roots=plan.audio_roots, repeats=repeats)
    best = recommended(measured)
    if as_json:
        rows = [attrs.asdict(one) for one in measured]
        click.echo(json.dumps({"stage": stage.name, "measured": rows, "recommended": best.setting}, indent=2))
        return
    _show(session, stage, measured, best)


def measure(
    stage: ProcessingStage,
    records: Sequence[Record],
    settings: Sequence[dict[str, Any]],
    *,
    roots: tuple[str, ...] | None,
    repeats: int,
) -> list[Measured]:
    """Run the stage over the records with each of the settings.

    Batch sizes are tried from the smallest: where one does not fit into memory, larger ones are not tried.
    """
    measured: list[Measured] = []
    bound: int | None = None
    for setting in settings:
        size = setting.get("batch_size")
        if size is not None and bound is not None and size > bound:
            measured.append(Measured(setting, None, None))
            continue
        walls, audio_s = _timed(stage.with_(**setting), records, roots, repeats)
        if walls is None:
            bound = size if bound is None else bound
            measured.append(Measured(setting, None, None))
            continue
        wall_s = statistics.median(walls)
        measured.append(Measured(setting, round(wall_s, 4), round(audio_s / wall_s, 1)))
    return measured


def recommended(measured: Sequence[Measured]) -> Measured:
    """Return the first setting, from the smallest, that is about as fast as the fastest.

    Raises:
        UsageError: none of them fits into memory.
    """
    rtfx = [one.rtfx for one in measured if one.rtfx is not None]
    if not rtfx:
        raise UsageError("not even one record at a time fits into memory; a smaller model is needed")
    return next(one for one in measured if one.rtfx is not None and one.rtfx >= _WITHIN * max(rtfx))


def _timed(
    stage: ProcessingStage, records: Sequence[Record], roots: tuple[str, ...] | None, repeats: int
) -> tuple[list[float] | None, float]:
    """Return the seconds of each repeat (None: out of memory) and the seconds of audio that were worked on."""
    stage.context = WorkerContext(audio_roots=roots)
    stage.setup()
    walls: list[float] = []
    audio_s = 0.0
    try:
        for repeat in range(repeats + 1):
            began = time.perf_counter()
            done = cast("AudioBatch", stage.process(AudioBatch([dict(record) for record in records])))
            if repeat:  # the first one warms up
                walls.append(time.perf_counter() - began)
            if not done.data:
                raise UsageError("none of the records could be worked on; run the pipeline and see its quarantine")
            audio_s = sum(map(audio_ms, done.data)) / 1000
    except Exception as error:
        if not is_oom(error):
            raise
        return None, audio_s
    finally:
        stage.teardown()
    return walls, audio_s


def _stage(plan: Plan, name: str | None) -> ProcessingStage:
    stages = {one.name: one.stage for one in plan.stages if isinstance(one.stage, ProcessingStage)}
    if name is not None:
        if name not in stages:
            raise UsageError(f"--stage {name}: there is no such stage; there are {', '.join(stages)}")
        return stages[name]
    for stage in stages.values():
        if type(stage).batch_size > 1:
            return stage
    raise UsageError("no stage of this pipeline works in batches; name one with --stage")


def _records(plan: Plan, limit: int) -> list[Record]:
    source = cast("Source", plan.stages[0].stage)
    return [record for record in islice(source.read(), limit) if not isinstance(record, Failed)]


def _numbers(text: str, option: str) -> list[int]:
    try:
        numbers = [int(number) for number in text.split(",") if number.strip()]
    except ValueError:
        numbers = [0]
    if any(number < 1 for number in numbers):
        raise UsageError(f"{option} {text}: write whole numbers of at least 1 with commas between them, such as 1,8,16")
    return numbers


def _show(session: Session, stage: ProcessingStage, measured: Sequence[Measured], best: Measured) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("setting")
    for heading in ("wall", "times real time"):
        table.add_column(heading, justify="right")
    for one in measured:
        wall = "out of memory" if one.wall_s is None else f"{one.wall_s:.3f} s"
        table.add_row(_written(one.setting), wall, "" if one.rtfx is None else f"{one.rtfx:,.1f}")
    session.console.print(table)
    options = " ".join(f"--set stages.{stage.name}.{name}={value}" for name, value in best.setting.items())
    session.console.print(f"Recommended: {options}", soft_wrap=True)
    if best.setting.get("batch_size") == 1:
        session.console.print("One at a time is about as fast as any batch here.")


def _written(setting: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in setting.items())
