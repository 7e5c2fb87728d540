"""Runs a pipeline on spread samples of its own input, in a temporary run directory, and publishes nothing.

Every part of the sample is a run of its own with the real stages, and each is larger than the one before: the work that
is the same in all of them (a first batch, an empty database) is separated from the work that grows with the input.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from curate.engine import RunOptions
from curate.errors import InfrastructureError
from curate.estimate.figures import RunFigures, read_figures
from curate.estimate.input_size import Survey
from curate.estimate.schedule import Capacity
from curate.machine import Machine
from curate.pipeline import Pipeline
from curate.plan import Plan
from curate.plural import counted
from curate.records import Record, RecordReader
from curate.resources import Resources
from curate.stage import Gather, ProcessingStage, ShardFile, ShardPublisher, Source, Stage, Writer
from curate.storage import is_url

if TYPE_CHECKING:
    from curate.engine import Executor
    from curate.plugin import PluginHost

_GROWTH = 5
"""A part of the sample has at most this many times the records of those before it together."""

_MAX_PARTS = 5

_ENOUGH = 0.6
"""The share of the time after which no further part begins."""


@attrs.frozen
class Sample:
    """A sample that was processed.

    Args:
        parts: the figures of its parts.
        records: the number of its records.
        wall_s: the time that it took, without loading models.
        notes: what the figures do not include, one sentence each.
    """

    parts: tuple[RunFigures, ...]
    records: int
    wall_s: float
    notes: tuple[str, ...]


def run_sample(
    pipeline: Pipeline,
    plan: Plan,
    found: Survey,
    executor: Executor,
    *,
    limit_s: float,
    near: Path,
    host: PluginHost | None = None,
    options: RunOptions | None = None,
    on_part: Callable[[int, int], None] = lambda begins, of: None,
) -> Sample:
    """Run a pipeline on parts of a spread sample until `limit_s` seconds of work are used.

    At least one part is run to its end, however long it takes.

    Args:
        pipeline: for its name and audio settings.
        plan: its plan, whose stages are run.
        found: the input.
        executor: runs the parts.
        limit_s: the time of all parts, in seconds, without loading models.
        near: the run directory of the real run, next to which the temporary ones lie, on the same storage.
        host: the plugins.
        options: the options of the real run.
        on_part: is called with the number of records of a part before it begins, and the number of all records.

    Raises:
        UsageError: no record of the sample was processed.
        InfrastructureError: the first phase failed for a reason that is not a record's.
    """
    stages, notes = _stages_of_sample(plan, executor)
    parts: list[RunFigures] = []
    problem = ""
    done, used_s, count, workers = 0, 0.0, 1, _workers(plan, executor)
    while count and len(parts) < _MAX_PARTS:
        places = range(done, min(done + count, len(found.candidates)))
        chosen = sorted(places, key=lambda place: found.positions[place])
        if not chosen:
            break
        records = [found.candidates[place] for place in chosen]
        on_part(len(records), round(found.size.records))
        part, problem = _run_part(pipeline, stages, records, executor, near, host, options)
        parts.append(attrs.evolve(part, size=sum(found.amounts[place] for place in chosen)))
        done += len(records)
        used_s += part.wall_s
        working_s = sum(each.work_s for each in parts) / workers
        count = _next_part(done, working_s, limit_s - used_s) if used_s < _ENOUGH * limit_s else 0
    reached = {name for part in parts for name, stage in part.stages.items() if stage.records_in}
    missed = [planned.name for planned in plan.stages if planned.kind == "processing" and planned.name not in reached]
    if problem:
        notes.append(problem)
    elif missed:
        notes.append(f"no record of the sample reached {', '.join(missed)}, which is not included")
    return Sample(tuple(parts), done, used_s, tuple(notes))


def _workers(plan: Plan, executor: Executor) -> int:
    """Return how many workers can share a part, about."""
    hops = plan.phases[0].hops
    if executor.name == "local" or not hops:
        return 1
    cpus = Machine.here().cpus
    return max(1, min(cpus, max(hop.workers or cpus for hop in hops)))


def _next_part(done: int, working_s: float, left_s: float) -> int:
    """Return the number of records of the next part; 0: not one more can be processed in the time that is left.

    Args:
        done: the records that were processed.
        working_s: the time for which their stages worked; what is done once in each part shows in no record.
        left_s: the time that is left.
    """
    return min(_GROWTH * done, int(left_s * done / max(working_s, 1e-3)))


def _run_part(
    pipeline: Pipeline,
    stages: Sequence[Stage],
    records: Sequence[Record],
    executor: Executor,
    near: Path,
    host: PluginHost | None,
    options: RunOptions | None,
) -> tuple[RunFigures, str]:
    """Return the figures of one part, and what it could not measure."""
    source = stages[0]
    assert isinstance(source, Source)
    given = SampledRecords(source, records).with_(name=source.name)
    sampled = Pipeline(pipeline.name, [given, *stages[1:]], audio=pipeline.audio)
    problem = ""
    parent = next(folder for folder in near.absolute().parents if folder.is_dir() and os.access(folder, os.W_OK))
    with tempfile.TemporaryDirectory(prefix=".estimate-", dir=parent) as folder:
        run_dir = Path(folder) / "run"
        try:
            sampled.run(executor, run_dir=run_dir, host=host, options=options or RunOptions())
        except InfrastructureError as error:
            if not (run_dir / "commits" / "complete-0.json").exists():
                raise
            problem = f"the sample of {counted(len(records))} stopped early, and what follows is not included: {error}"
        figures = read_figures(run_dir)
    return figures, problem


def _stages_of_sample(plan: Plan, executor: Executor) -> tuple[list[Stage], list[str]]:
    """Return the stages as a sample runs them, and what it leaves out: files outside of its own run directory.

    On this machine, a stage has as many workers as fit, which may be fewer than those of the plan.
    """
    is_elsewhere = Capacity.of(executor).cpus is None
    stages: list[Stage] = []
    withheld: list[str] = []
    for planned in plan.stages:
        stage = planned.stage
        if isinstance(stage, Gather):
            stage = stage.for_sample()
        elif isinstance(stage, ProcessingStage) and stage.workers is not None:
            stage = stage if is_elsewhere else stage.with_(workers=min(stage.workers, _fitting(stage.resources)))
        elif isinstance(stage, Writer) and not _stays_inside(stage):
            withheld.append(planned.name)
            kind = _NoShards if isinstance(stage, ShardPublisher) else _NoFiles
            stage = kind().with_(name=planned.name, checkpoint=stage.checkpoint)
        stages.append(stage)
    left_out = f"{', '.join(withheld)}: the final copy is not included, because a sample publishes nothing"
    return stages, [left_out] if withheld else []


def _fitting(resources: Resources) -> int:
    """Return how many workers of these resources fit on this machine, at least 1."""
    here = Machine.here()
    counts = [here.cpus / (resources.cpus or 1.0), *([here.gpus / resources.gpus] if resources.gpus else [])]
    return max(1, int(min(counts)))


def _stays_inside(writer: Writer) -> bool:
    """Return whether all that a writer writes lies in the run directory."""
    outputs = writer.outputs()
    return bool(outputs) and not any(
        is_url(output) or Path(output).is_absolute() or ".." in Path(output).parts for output in outputs
    )


@dataclass
class SampledRecords(Source):
    """A source that yields some records of another source, which answers everything else."""

    source: Source
    records: Sequence[Record] = field(repr=False)

    tuning = frozenset({"source", "records"})

    def read(self, after: str | None = None) -> Iterator[Record]:
        for record in self.records:
            yield dict(record)

    def count(self) -> int:
        return len(self.records)

    def record_columns(self) -> Collection[str] | None:
        return self.source.record_columns()

    def audio_roots(self) -> tuple[str, ...] | None:
        return self.source.audio_roots()

    def licenses(self) -> Collection[str]:
        return self.source.licenses()


class _NoFiles(Writer):
    """A writer in the place of one that would publish."""

    def write(self, records: RecordReader, directory: Path) -> list[Path]:
        return []


class _NoShards(ShardPublisher):
    """A publisher in the place of one that would publish."""

    def publish(self, shards: Sequence[ShardFile], directory: Path) -> list[Path]:
        return []
