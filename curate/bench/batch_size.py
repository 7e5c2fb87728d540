"""The batch size benchmark: it finds the size, or the budget, at which a stage is fastest on the user's records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from curate.bench.history import basis_of, remember
from curate.bench.trial import Bench, RepeatedRecords, Trial
from curate.errors import UsageError
from curate.machine import Machine
from curate.pipeline import Pipeline
from curate.plan import Plan
from curate.records import Failed, Record, audio_ms
from curate.stage import Partitioner, ProcessingStage, Writer

if TYPE_CHECKING:
    from curate.engine import Executor
    from curate.plugin import PluginHost

WITHIN = 0.97
"""A smaller setting that reaches this share of the best throughput is preferred, because it needs less memory."""

SIZES = (1, 2, 4, 8, 16, 32, 64)


@attrs.frozen
class BatchSizeReport:
    """The result of `bench_batch_sizes`.

    Args:
        pipeline: the name of the pipeline.
        stage: the name of the measured stage.
        executor: the name of the executor.
        records: the number of records that each setting was measured on.
        audio_s: the length of these records, by the column `duration`.
        basis: equal for reports that may be compared: those of the same records, stage and machine.
        when: the time of the measurement, in UTC.
        trials: one for each setting, in the order of measurement.
        before: the previous report on the same basis, from the history; None if there is none.
    """

    pipeline: str
    stage: str
    executor: str
    records: int
    audio_s: float
    basis: str
    when: str
    trials: tuple[Trial, ...]
    before: BatchSizeReport | None = None

    @property
    def best(self) -> Trial:
        """The first setting, from the smallest, that is about as fast as the fastest.

        Raises:
            UsageError: none of them fits into memory.
        """
        rates = [(rate, trial) for trial in self.trials if (rate := trial.records_per_s) is not None and not trial.idle]
        if not rates:
            raise UsageError(
                "one record at a time does not fit into memory; a smaller model is needed"
                if not any(trial.idle for trial in self.trials)
                else "workers were idle in every trial: give more records with --limit, or fewer --replicas"
            )
        enough = WITHIN * max(rate for rate, _ in rates)
        return next(trial for rate, trial in rates if rate >= enough)

    @property
    def bounds(self) -> tuple[str, ...]:
        """The limits that memory sets, a sentence each."""
        sentences: list[str] = []
        for replicas in sorted({trial.replicas for trial in self.trials}):
            sizes = {
                t.setting["batch_size"]: t for t in self.trials if t.replicas == replicas and "batch_size" in t.setting
            }
            too_large = min((size for size, trial in sizes.items() if not trial.fits), default=None)
            if too_large is not None:
                fits = max((size for size, trial in sizes.items() if trial.fits), default=0)
                among = "" if replicas == 1 else f" with {replicas} workers"
                sentences.append(f"{fits} records at a time fit into memory{among}, {too_large} do not")
        return tuple(sentences)

    @property
    def yaml(self) -> str:
        """The lines of the pipeline file that choose the best setting."""
        best = self.best
        chosen = {**best.setting, **({"workers": best.replicas} if best.replicas > 1 else {})}
        return "\n".join(f"    {name}: {_as_yaml(value)}" for name, value in chosen.items())

    def before_of(self, trial: Trial) -> Trial | None:
        """Return the trial of the same setting in the previous report, None if there is none."""
        earlier = self.before.trials if self.before is not None else ()
        alike = (one for one in earlier if (one.setting, one.replicas) == (trial.setting, trial.replicas))
        return next(alike, None)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready data, without the previous report."""
        described = attrs.asdict(self, filter=lambda field, _: field.name != "before")
        for of_trial, trial in zip(described["trials"], self.trials, strict=True):
            of_trial["fits"] = trial.fits
        return described

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> BatchSizeReport:
        """Return the report from the data of `to_dict`."""
        fields = {name: value for name, value in described.items() if name != "trials"}
        trials = ({name: value for name, value in trial.items() if name != "fits"} for trial in described["trials"])
        return cls(**fields, trials=tuple(Trial(**trial) for trial in trials))


def bench_batch_sizes(
    pipeline: Pipeline,
    *,
    sizes: Sequence[int] = SIZES,
    budgets: Sequence[float] = (),
    replicas: Sequence[int] = (1,),
    stage: str | None = None,
    executor: str | Executor = "local",
    limit: int = 200,
    repeats: int = 3,
    history: Path | None = None,
    host: PluginHost | None = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> BatchSizeReport:
    """Run a stage over the pipeline's own records with each setting, and compare.

    Every setting processes the same records: one pass to warm up, then `repeats` passes, of which the median counts.
    Sizes are tried in ascending order; after the first that does not fit into memory, larger ones are not tried. The
    size 1 is always included, as the baseline of batching.

    Args:
        pipeline: the pipeline of the stage; the stages before it run once, to make its input.
        sizes: numbers of records in a batch.
        budgets: budgets of length-aware batches, in seconds of audio with padding.
        replicas: numbers of workers to try each setting with; more than one needs an executor with processes.
        stage: the stage's name; None: the first stage that works in batches.
        executor: the executor, by name or as an object.
        limit: the maximum number of input records.
        repeats: the number of measured passes.
        history: a file of JSON lines to which the report is appended, and from which the previous report is read.
        host: the plugins; None: those that are installed.
        on_trial: called with each trial when it is finished.

    Raises:
        UsageError: a setting cannot be measured, or nothing fits into memory.
    """
    from curate.plugin import current_host, use_host

    host = current_host() if host is None else host
    place: Executor = host.executor(executor).load()() if isinstance(executor, str) else executor
    if place.name == "local" and max(replicas) > 1:
        raise UsageError(
            "the executor 'local' has one worker per stage: several replicas need an executor with processes, such as "
            "--executor multiprocessing"
        )
    plan = pipeline.plan(place, host=host)
    chosen = _stage(plan, stage)
    with use_host(host):
        records = input_of(plan, chosen, limit, host)
    bench = Bench(chosen, records, plan.audio_roots, place, repeats, host)
    trials: list[Trial] = []
    settings = _settings(chosen, sizes, budgets)
    bench.rehearse(settings[0])
    for trial in _trials(bench, settings, sorted(set(replicas))):
        trials.append(trial)
        if on_trial is not None:
            on_trial(trial)
    report = BatchSizeReport(
        pipeline=plan.name,
        stage=chosen.name,
        executor=place.name,
        records=len(records),
        audio_s=sum(map(audio_ms, records)) / 1000,
        basis=basis_of(chosen, records, place.name, Machine.here()),
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        trials=tuple(trials),
    )
    return remember(report, history, BatchSizeReport.from_dict)


def _trials(bench: Bench, settings: Sequence[Mapping[str, Any]], replicas: Sequence[int]) -> Iterator[Trial]:
    for count in replicas:
        too_large: int | None = None
        for setting in settings:
            size = setting.get("batch_size")
            if size is not None and too_large is not None:
                yield Trial(setting, count)
                continue
            trial = bench.run(setting, count)
            if size is not None and not trial.fits:
                too_large = size
            yield trial


def _settings(stage: ProcessingStage, sizes: Sequence[int], budgets: Sequence[float]) -> list[dict[str, Any]]:
    own = stage.settings()
    # For an ASR stage that plans by length, a number of records is only the maximum.
    fixed: dict[str, Any] = {} if own.get("batching", "static") == "static" else {"batching": "static"}
    unset: dict[str, Any] = {"initial_batch_size": None} if own.get("initial_batch_size") is not None else {}
    settings = [{**unset, **fixed, "batch_size": size} for size in sorted({1, *sizes})]
    settings += [{**unset, "batching": "length", "max_batch_s": float(budget)} for budget in sorted(set(budgets))]
    return [*settings, *([{}] if fixed or unset else [])]


def _stage(plan: Plan, name: str | None) -> ProcessingStage:
    stages = {one.name: one.stage for one in plan.stages if isinstance(one.stage, ProcessingStage)}
    if name is not None:
        if name not in stages:
            raise UsageError(f"unknown stage {name!r}; the stages that can be measured are {', '.join(stages)}")
        return stages[name]
    for stage in stages.values():
        if type(stage).batch_size > 1:
            return stage
    raise UsageError("no stage of this pipeline works in batches; choose one with --stage")


def input_of(plan: Plan, stage: ProcessingStage, limit: int, host: PluginHost) -> list[Record]:
    """Return the records that reach the stage, from the first `limit` records of the input.

    Raises:
        UsageError: none reaches it.
    """
    source = plan.phases[0].source
    assert source is not None  # the planner checks that a pipeline begins with one
    records = [record for record in islice(source.stage.read(), limit) if not isinstance(record, Failed)]
    earlier = takewhile(lambda planned: planned.stage is not stage, plan.stages[1:])
    before = [planned.stage for planned in earlier if not isinstance(planned.stage, Writer | Partitioner)]
    if before:
        passes = RepeatedRecords(records, 1, plan.audio_roots)
        records = list(Pipeline("bench-input", [passes, *before]).run(host=host).records())
    if not records:
        raise UsageError(f"no records reach stage {stage.name!r}; `curate run` shows where they are filtered or fail")
    return records


def _as_yaml(value: Any) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
