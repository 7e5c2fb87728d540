"""A pipeline: a named list of stages, and what can be done with it: describe, plan, run, stream."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs

from curate.errors import PlanError
from curate.plan import Plan, make_plan
from curate.records import AudioBatch
from curate.stage import CompositeStage, Source, Stage, Writer

if TYPE_CHECKING:
    from curate.engine.protocol.options import RunOptions
    from curate.engine.protocol.transport import Executor
    from curate.engine.run import RunResult
    from curate.plugin import PluginHost


class Pipeline:
    """A named list of stages.

    Args:
        name: for logs, reports and the default run directory, `runs/<name>`.
        stages: the first stages; more come with `add_stage`.
    """

    def __init__(self, name: str, stages: Iterable[Stage] = ()) -> None:
        if name in ("", ".", "..") or "/" in name:
            raise PlanError(f"{name!r} is no name for a pipeline: its run directory is called after it")
        self.name = name
        self.stages: list[Stage] = []
        for stage in stages:
            self.add_stage(stage)

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, stages={[stage.name for stage in self.stages]})"

    def __getattr__(self, name: str) -> Any:
        if name == "add_parallel_stage":
            raise AttributeError(
                "Pipeline has no add_parallel_stage: add the stage once, with .add_stage(stage.with_(workers=…))"
            )
        raise AttributeError(f"Pipeline has no attribute {name!r}")

    def add_stage(self, stage: Stage) -> Self:
        """Add a stage at the end and return the pipeline, so that calls can be chained.

        Raises:
            TypeError: it is not a stage.
        """
        if not isinstance(stage, Stage):  # pyright: ignore[reportUnnecessaryIsInstance] (not everyone type-checks)
            hint = " (call it: add_stage(MyStage(…)))" if isinstance(stage, type) and issubclass(stage, Stage) else ""
            raise TypeError(f"add_stage takes a stage, not {stage!r}{hint}")
        self.stages.append(stage)
        return self

    def plan(self, executor: str | Executor | None = None, *, host: PluginHost | None = None) -> Plan:
        """Check the pipeline and return what would be done, without loading or writing anything.

        Args:
            executor: also check that the resources can be had there.
            host: where executors are looked up by name.

        Raises:
            PlanError: the first thing that cannot work, and what to do about it.
        """
        from curate.plugin import use_host

        with use_host(_host(host)):
            plan = make_plan(self.name, self.stages)
        if executor is not None:
            _executor(executor, host).check(plan)
        return plan

    def describe(self) -> str:
        """Return the stages, one a line, as they were composed."""
        lines = [f"Pipeline {self.name!r}"]

        def show(stage: Stage, depth: int) -> None:
            settings = ", ".join(f"{name}={value!r}" for name, value in stage.shown_settings().items())
            options = ", ".join(f"{name}={value!r}" for name, value in stage.overrides.items() if name != "name")
            lines.append(
                f"{'  ' * depth}{stage.name}: {type(stage).__name__}({settings})"
                + (f" with {options}" if options else "")
            )
            if isinstance(stage, CompositeStage):
                for part in stage.decompose():
                    show(part, depth + 1)

        for stage in self.stages:
            show(stage, 1)
        return "\n".join(lines)

    def run(
        self,
        executor: str | Executor = "local",
        *,
        run_dir: str | Path | None = None,
        host: PluginHost | None = None,
        max_failures: int | None = None,
        max_failure_ratio: float | None = None,
        options: RunOptions | None = None,
    ) -> RunResult:
        """Run the pipeline to its end.

        A pipeline that publishes files runs in a run directory, `runs/<name>` by default; started again there, it goes
        on where it was. One without a writer keeps its results in memory unless it is given a `run_dir`.

        Args:
            executor: a registered name, or an executor object.
            run_dir: where shards, commits and published files lie.
            host: the plugins; None: those that are installed.
            max_failures: so many records may go to quarantine.
            max_failure_ratio: this share of the records may, once there are 200. Without either, the larger of 100
                records and 1 %.
            options: what else can be said about this life of the run: a fork, a retry, an input that has grown.

        Raises:
            UsageError: something cannot work; nothing was written.
            InfrastructureError: the run had to stop; started again, it goes on.
            BudgetExceededError: too many records have failed; what is finished is kept.
        """
        from curate.engine.protocol.error_budget import ErrorBudget
        from curate.engine.protocol.options import RunOptions
        from curate.engine.run import run_plan
        from curate.observe import MetricsWriter, RunLog
        from curate.plugin import use_host

        options = options or RunOptions()
        if (max_failures, max_failure_ratio) != (None, None):
            options = attrs.evolve(options, budget=ErrorBudget(max_failures, max_failure_ratio))
        place = _executor(executor, host)
        plan = self.plan(place, host=host)
        directory = None if run_dir is None else Path(run_dir)
        if directory is None and any(isinstance(planned.stage, Writer) for planned in plan.stages):
            directory = Path("runs") / self.name
        told = _host(host)
        with use_host(told), told.observed_by(MetricsWriter(), RunLog()):
            return run_plan(plan, place, directory, told, options)

    def stream(self, batches: Iterable[AudioBatch], executor: str | Executor = "local") -> Generator[AudioBatch]:
        """Yield the batches of an iterator, possibly endless, as the stages finish them, in bounded memory.

        What is left out or fails is in the yielded batch's `rejected` and `failed`. Records need no `_id`. There is no
        run directory, and no source, partitioner, gather or writer.
        """
        from curate.engine.stream import stream_plan

        place = _executor(executor, None)
        if any(isinstance(stage, Source) for stage in self.stages):
            raise PlanError("Pipeline.stream takes its batches from you, so leave the source out")
        plan = make_plan(self.name, self.stages, streaming=True)
        place.check(plan)
        return stream_plan(plan, place, map(_checked_batch, batches))


def _checked_batch(batch: object) -> AudioBatch:
    if not isinstance(batch, AudioBatch):
        raise TypeError(
            f"Pipeline.stream takes batches, not a {type(batch).__name__}; put records into one: "
            "AudioBatch([record, …])"
        )
    return batch


def _host(host: PluginHost | None) -> PluginHost:
    from curate.plugin import current_host

    return current_host() if host is None else host


def _executor(executor: str | Executor, host: PluginHost | None) -> Executor:
    if not isinstance(executor, str):
        return executor
    return _host(host).executor(executor).load()()
