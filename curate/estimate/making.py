"""Makes a forecast of a pipeline: finds how much input there is, takes figures of its work, and extrapolates them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from curate.engine import RunReader
from curate.errors import UsageError
from curate.estimate.figures import RunFigures, read_figures
from curate.estimate.forecast import Forecast, forecast
from curate.estimate.input_size import InputSize, Survey, survey
from curate.estimate.prices import Prices
from curate.estimate.sampling import run_sample
from curate.estimate.schedule import Capacity
from curate.estimate.workload import Workload, extrapolate
from curate.pipeline import Pipeline
from curate.plan import Plan
from curate.suggest import closest

if TYPE_CHECKING:
    from curate.engine import Executor, RunOptions
    from curate.plugin import PluginHost

SAMPLE_S = 60.0
"""The time for which a sample is processed, unless another is asked for."""


def estimate(
    pipeline: Pipeline,
    executor: str | Executor = "local",
    *,
    run_dir: str | Path | None = None,
    sample_s: float = SAMPLE_S,
    earlier: str | Path | None = None,
    speeds: Mapping[str, float] | None = None,
    hours: float | None = None,
    prices: Prices | None = None,
    host: PluginHost | None = None,
    options: RunOptions | None = None,
    on_part: Callable[[int, int], None] = lambda begins, of: None,
) -> Forecast:
    """Return the time and the price of a run of the pipeline, without running it.

    Args:
        pipeline: with the workers and resources that the run is to have.
        executor: that of the run; it also runs the sample.
        run_dir: that of the run, next to which the temporary ones of a sample lie; None: `runs/<name>`.
        sample_s: how long a sample is processed, in seconds without loading models; 0: no sample.
        earlier: the run directory of a run whose figures are taken instead of a sample; it need not be finished.
        speeds: stage → seconds of the input's audio in a second of one worker, instead of what was measured.
        hours: the hours of the input, instead of those that it has.
        prices: of the resources.
        host: the plugins; None: those that are installed.
        options: the options that the run is to have.
        on_part: is called before a part of a sample begins, with the number of its records and of all records.

    Raises:
        UsageError: the pipeline cannot run as composed, the input cannot be counted, or the earlier run is another.
        InfrastructureError: the sample had to stop.
    """
    from curate.plugin import current_host, use_host

    plugins = current_host() if host is None else host
    chosen = plugins.executor(executor).load()() if isinstance(executor, str) else executor
    samples = earlier is None and sample_s > 0
    plan = pipeline.plan(host=plugins)  # the workers of the run need not fit here; those of a sample are checked
    source = plan.phases[0].source
    assert source is not None
    with use_host(plugins):
        found = survey(source.stage)
    capacity = Capacity.of(chosen)
    size, notes, parts = found.size, (), ()
    if earlier is not None:
        size, parts = _figures_of(Path(earlier), plan, found.size)
    elif samples:
        near = Path("runs") / pipeline.name if run_dir is None else Path(run_dir)
        sample = run_sample(
            pipeline, plan, found, chosen, limit_s=sample_s, near=near, host=plugins, options=options, on_part=on_part
        )
        parts, notes = sample.parts, sample.notes
        size = _with_lengths(found, parts)
    if hours is not None:
        size = size.with_hours(hours)
    workload = extrapolate(plan, size, parts, capacity, notes=notes)
    return forecast(plan, _with_speeds(workload, speeds or {}), capacity, prices)


def is_alike(run_dir: Path, plan: Plan) -> bool:
    """Return whether a directory has a run with finished records whose stages work as those of a plan do."""
    try:
        return not _first_difference(RunReader(run_dir), plan) and bool(read_figures(run_dir).phases)
    except UsageError:  # no run, or none of its records is finished
        return False


def _figures_of(run_dir: Path, plan: Plan, size: InputSize) -> tuple[InputSize, tuple[RunFigures]]:
    """Return the figures of an earlier run, and the size in a unit that they have.

    Raises:
        UsageError: its stages do other work than those of the plan.
    """
    difference = _first_difference(RunReader(run_dir), plan)
    if difference:
        raise UsageError(f"{run_dir}: {difference}, so its figures are not those of this pipeline; leave --from out")
    figures = read_figures(run_dir)
    audio_s = figures.phases[0].audio_s
    if size.unit == "seconds" and audio_s > 0:
        return size, (attrs.evolve(figures, size=audio_s),)
    return size.in_records(audio_s / figures.records), (attrs.evolve(figures, size=float(figures.records)),)


def _first_difference(run: RunReader, plan: Plan) -> str:
    """Return in which stage in workers, or gather, a run differs from a plan; empty if in none."""
    for planned in plan.stages:
        if planned.kind not in ("processing", "gather"):
            continue
        settings = run.settings.get(planned.name)
        if settings is None:
            return f"the run has no stage {planned.name!r}"
        wanted = json.loads(json.dumps(plan.settings[planned.name]))
        for name in sorted({*settings, *wanted}):
            if settings.get(name) != wanted.get(name):
                return f"stage {planned.name!r} has another {name!r} there"
    return ""


def _with_lengths(found: Survey, parts: tuple[RunFigures, ...]) -> InputSize:
    """Return the size of the input with its audio, which the sample has measured where the source does not know it."""
    size = found.size
    audio_s, amount = sum(part.phases[0].audio_s for part in parts), sum(part.size for part in parts)
    return size if size.unit == "seconds" or not audio_s else attrs.evolve(size, mean_s=audio_s / amount)


def _with_speeds(workload: Workload, speeds: Mapping[str, float]) -> Workload:
    """Return the work with that of some stages as their given speeds make it.

    Raises:
        UsageError: there is no such stage, or the input's audio is unknown.
    """
    known = [name for phase in workload.phases for name in phase.stages]
    for name in speeds:
        if name not in known:
            raise UsageError(f"--speed {name}=…: no stage in workers has this name; {closest(name, known)}")
    audio_s = workload.size.audio_s
    if speeds and audio_s is None:
        raise UsageError("--speed needs the hours of the input: a `duration` column, or a sample with --sample-s")
    phases = tuple(
        attrs.evolve(
            phase,
            stages={
                name: attrs.evolve(stage, work_s=(audio_s or 0.0) / speeds[name]) if name in speeds else stage
                for name, stage in phase.stages.items()
            },
        )
        for phase in workload.phases
    )
    return attrs.evolve(workload, phases=phases)
