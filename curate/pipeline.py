"""A pipeline: a named list of stages that can be described, planned, run and streamed."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import attrs
from loguru import logger

from curate.audio import AudioSettings
from curate.composite import CompositeStage, check_depth
from curate.errors import PlanError, UsageError
from curate.plan import Plan, make_plan
from curate.records import AudioBatch
from curate.resources import parse_size
from curate.stage import Source, Stage, Writer
from curate.storage import forget_containers, forget_objects, register
from curate.suggest import closest, foreign_answer

if TYPE_CHECKING:
    from curate.engine import Executor, RunOptions, RunResult
    from curate.plugin import PluginHost


class Pipeline:
    """A named list of stages.

    Args:
        name: for logs, reports and the default run directory, `runs/<name>`.
        stages: the first stages; more come with `add_stage`.
        audio: how every stage reads audio: channels, tolerance, wrong durations; part of the fingerprint.
    """

    def __init__(self, name: str, stages: Iterable[Stage] = (), *, audio: AudioSettings | None = None) -> None:
        if name in ("", ".", "..") or "/" in name:
            raise PlanError(f"invalid pipeline name {name!r}: it is also used as the run directory's name")
        self.name = name
        self.audio = AudioSettings() if audio is None else audio
        self.stages: list[Stage] = []
        for stage in stages:
            self.add_stage(stage)

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, stages={[stage.name for stage in self.stages]})"

    if not TYPE_CHECKING:  # a type checker would take any name for a known one

        def __getattr__(self, name: str) -> Any:
            if name == "add_parallel_stage":
                raise AttributeError(
                    "Pipeline has no add_parallel_stage: add the stage once, with .add_stage(stage.with_(workers=…))"
                )
            raise AttributeError(f"Pipeline has no attribute {name!r}: {closest(name, _PUBLIC)}")

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
        """Check the pipeline and return its plan, without loading or writing anything.

        Args:
            executor: also check that this executor has the resources.
            host: the plugins in which names of executors, recognisers and the like are looked up; None: the installed.

        Raises:
            PlanError: the first mistake, and the remedy.
        """
        from curate.plugin import use_host
        from curate.plugin.schemes import schemes_of

        plugins = _host(host)
        schemes = schemes_of(plugins)
        register(schemes)  # before the plan, which looks at the inputs
        forget_objects()
        forget_containers()
        with use_host(plugins):
            plan = attrs.evolve(make_plan(self.name, self.stages, host=plugins, audio=self.audio), schemes=schemes)
        if executor is not None:
            _executor(executor, host).check(plan)
        return plan

    def describe(self) -> str:
        """Return the stages, one a line, as they were composed."""
        lines = [f"Pipeline {self.name!r}"]

        def show(stage: Stage, chain: tuple[Stage, ...]) -> None:
            settings = ", ".join(f"{name}={value!r}" for name, value in stage.shown_settings().items())
            options = ", ".join(f"{name}={value!r}" for name, value in stage.overrides.items() if name != "name")
            lines.append(
                f"{'  ' * (len(chain) + 1)}{stage.name}: {type(stage).__name__}({settings})"
                + (f" with {options}" if options else "")
            )
            if isinstance(stage, CompositeStage):
                check_depth(stage, chain)
                for part in stage.parts():
                    show(part, (*chain, stage))

        for stage in self.stages:
            show(stage, ())
        return "\n".join(lines)

    def run(
        self,
        executor: str | Executor = "local",
        *,
        run_dir: str | Path | None = None,
        host: PluginHost | None = None,
        max_failures: int | None = None,
        max_failure_ratio: float | None = None,
        audio_memory: int | str | None = None,
        spool_dir: str | Path | None = None,
        spool_gb: float | None = None,
        options: RunOptions | None = None,
    ) -> RunResult:
        """Run the pipeline to its end.

        A pipeline that publishes files runs in a run directory, `runs/<name>` by default; started again there, it
        resumes. A pipeline without a writer keeps its results in memory unless it is given a `run_dir`.

        Args:
            executor: a registered name, or an executor object.
            run_dir: where shards, commits and published files lie.
            host: the plugins; None: those that are installed.
            max_failures: the maximum number of records in quarantine.
            max_failure_ratio: the maximum share of records in quarantine, checked from 200 records on. Without either,
                the larger of 100 records and 1 %.
            audio_memory: the decoded audio that each worker holds at most, in bytes or as a string such as `"256MB"`,
                which is the default. It changes the speed and no result; 0: nothing is decoded ahead.
            spool_dir: where decoded recordings lie that are too long for memory: a folder on a disk of each node, which
                runs may share. By default they lie in the run directory. They are removed at the end.
            spool_gb: their size on each node at most, in GB; 32 by default. Of more, the least recently used go first.
            options: further options of this attempt: a fork, a retry, an input that has grown.

        Raises:
            UsageError: the pipeline cannot run as composed; nothing was written.
            InfrastructureError: the run had to stop; started again, it resumes.
            BudgetExceededError: too many records have failed; finished records are kept.
        """
        from curate.engine import ErrorBudget, RunOptions, run_plan
        from curate.observe import MetricsWriter, RunLog
        from curate.plugin import use_host

        options = options or RunOptions()
        if (max_failures, max_failure_ratio) != (None, None):
            options = attrs.evolve(options, budget=ErrorBudget(max_failures, max_failure_ratio))
        if audio_memory is not None:
            options = attrs.evolve(options, audio_memory_bytes=parse_audio_memory(audio_memory))
        if spool_dir is not None:
            options = attrs.evolve(options, spool_directory=Path(spool_dir))
        if spool_gb is not None:
            options = attrs.evolve(options, spool_bytes=parse_spool_gb(spool_gb))
        chosen, plugins = _executor(executor, host), _host(host)
        plan = self.plan(chosen, host=plugins)
        directory = None if run_dir is None else Path(run_dir)
        if directory is None and any(isinstance(planned.stage, Writer) for planned in plan.stages):
            directory = Path("runs") / self.name
        if plan.without_output:
            logger.warning("{}", plan.without_output)
        # sources, gathers and writers work in this process, and look up formats by name while they do
        with use_host(plugins), plugins.observed_by(MetricsWriter(), RunLog()):
            return run_plan(plan, chosen, directory, plugins, options)

    def stream(
        self,
        batches: Iterable[AudioBatch],
        executor: str | Executor = "local",
        *,
        host: PluginHost | None = None,
    ) -> Generator[AudioBatch]:
        """Yield the batches of an iterator, possibly endless, as the stages finish them, in bounded memory.

        Records that are filtered or fail are in the yielded batch's `rejected` and `failed`. Records need no `_id`.
        A stream has neither a run directory nor a source, partitioner, gather or writer.

        Args:
            batches: the input; read only as fast as the stages work.
            executor: a registered name, or an executor object.
            host: the plugins; None: those that are installed.

        Raises:
            PlanError: the pipeline has a source, a partitioner, a gather or a writer, or cannot be planned.
        """
        from curate.engine import stream_plan
        from curate.plugin.schemes import schemes_of

        chosen, plugins = _executor(executor, host), _host(host)
        if any(isinstance(stage, Source) for stage in self.stages):
            raise PlanError("Pipeline.stream takes its batches from the caller, so leave the source out")
        plan = make_plan(self.name, self.stages, host=plugins, streaming=True, audio=self.audio)
        plan = attrs.evolve(plan, schemes=schemes_of(plugins))
        register(plan.schemes)
        chosen.check(plan)
        return stream_plan(plan, chosen, map(_checked_batch, batches))


def parse_audio_memory(size: int | str) -> int:
    """Return a bound on decoded audio in bytes.

    Raises:
        UsageError: it is not a size.
    """
    try:
        parsed = parse_size(size)
    except ValueError as error:
        raise UsageError(f"audio_memory={size!r}: {error}") from None
    if parsed < 0:
        raise UsageError(f"audio_memory={size!r} must be 0 or more")
    return parsed


def parse_spool_gb(size: float) -> int:
    """Return a bound on the spool in bytes.

    Raises:
        UsageError: it is not a positive number.
    """
    if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size < float("inf"):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"spool_gb={size!r} must be a number of GB above 0")
    return max(1, round(size * 10**9))


_PUBLIC = [name for name in vars(Pipeline) if not name.startswith("_")]


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
        return _checked_executor(executor)
    return _host(host).executor(executor).load()()


def _checked_executor(executor: object) -> Executor:
    """Return an executor object.

    Raises:
        UsageError: it is a class, or is none; the message has what it lacks.
    """

    if isinstance(executor, type):
        raise UsageError(f"the executor is a class: create one, {executor.__name__}(…)")
    missing = [name for name in ("name", "check", "open", "close") if not hasattr(executor, name)]
    if missing:
        cls = type(executor).__name__
        answer = foreign_answer(cls)
        raise UsageError(
            f"{cls} is not an executor of curate: {answer}"
            if answer is not None
            else f"{cls} is not an executor: it has no {', '.join(missing)}; see curate.executors.Executor"
        )
    name: object = getattr(executor, "name", None)
    if not isinstance(name, str) or not name:
        raise UsageError(f"the name of an executor is a string, not {name!r} ({type(executor).__name__})")
    return cast("Executor", executor)
