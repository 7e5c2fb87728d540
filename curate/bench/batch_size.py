"""Finds the batch size, or the budget, at which a stage is fastest on the user's records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs

from curate.bench.history import append, basis_of, last_alike
from curate.bench.trial import Bench, RepeatedRecords, Trial
from curate.errors import UsageError
from curate.machine import Machine
from curate.pipeline import Pipeline
from curate.plan import Plan
from curate.records import Failed, Record, audio_ms
from curate.stage import Partitioner, ProcessingStage, Source, Writer

if TYPE_CHECKING:
    from curate.engine.protocol.transport import Executor
    from curate.plugin import PluginHost

WITHIN = 0.97
"""A smaller setting that reaches so much of the best throughput is the better choice: it needs less memory."""

SIZES = (1, 2, 4, 8, 16, 32, 64)


@attrs.frozen
class BatchSizeReport:
    """What `bench_batch_sizes` has found.

    Args:
        pipeline: its name.
        stage: the name of the stage that was measured.
        executor: where it ran.
        records: how many records each setting was measured on.
        audio_s: their audio, by the column `duration`.
        basis: tells whether two reports may be compared: the same records, stage and machine.
        when: the time of the measurement, in UTC.
        trials: one for each setting, in the order in which they were measured.
        before: an earlier run's report on the same basis, from the history; None if there is none.
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
                "not even one record at a time fits into memory; a smaller model is needed"
                if not any(trial.idle for trial in self.trials)
                else "workers were idle in every trial: give more records with --limit, or fewer --replicas"
            )
        enough = WITHIN * max(rate for rate, _ in rates)
        return next(trial for rate, trial in rates if rate >= enough)

    @property
    def bounds(self) -> tuple[str, ...]:
        """What memory sets an end to, a sentence each."""
        said: list[str] = []
        for replicas in sorted({trial.replicas for trial in self.trials}):
            sizes = {
                t.setting["batch_size"]: t for t in self.trials if t.replicas == replicas and "batch_size" in t.setting
            }
            too_large = min((size for size, trial in sizes.items() if not trial.fits), default=None)
            if too_large is not None:
                fits = max((size for size, trial in sizes.items() if trial.fits), default=0)
                among = "" if replicas == 1 else f" with {replicas} workers"
                said.append(f"{fits} records at a time fit into memory{among}, {too_large} do not")
        return tuple(said)

    @property
    def yaml(self) -> str:
        """The lines of the pipeline file that choose the best setting."""
        best = self.best
        chosen = {**best.setting, **({"workers": best.replicas} if best.replicas > 1 else {})}
        return "\n".join(f"    {name}: {_as_yaml(value)}" for name, value in chosen.items())

    def before_of(self, trial: Trial) -> Trial | None:
        """Return what the same setting came to in the run before."""
        earlier = self.before.trials if self.before is not None else ()
        alike = (one for one in earlier if (one.setting, one.replicas) == (trial.setting, trial.replicas))
        return next(alike, None)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready data, without the one before."""
        described = attrs.asdict(self, filter=lambda field, _: field.name != "before")
        for of_trial, trial in zip(described["trials"], self.trials, strict=True):
            of_trial["fits"] = trial.fits
        return described

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> BatchSizeReport:
        """Return the report that `to_dict` has described."""
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

    Every setting works on the same records: a pass to warm up, then `repeats` of which the median counts. Sizes are
    tried from the smallest; where one does not fit into memory, that is a bound, and larger ones are not tried. A
    size of 1 is always among them: that batching pays is a claim to be measured as well.

    Args:
        pipeline: whose stage is measured; the stages before it run once, to make its input.
        sizes: numbers of records in a batch.
        budgets: budgets of length-aware batches, in seconds of audio with padding.
        replicas: numbers of workers to try each setting with; more than one needs an executor with processes.
        stage: the stage's name; None: the first that works in batches.
        executor: where, by name or as an object.
        limit: how many of the input's records to work on.
        repeats: how many passes are measured.
        history: a file of JSON lines that the report is appended to, and in which the one before is looked for.
        host: the plugins; None: those that are installed.
        on_trial: told of each setting as it is done.

    Raises:
        UsageError: a setting cannot be measured, or nothing fits into memory.
    """
    from curate.plugin import current_host, use_host

    host = current_host() if host is None else host
    place: Executor = host.executor(executor).load()() if isinstance(executor, str) else executor
    if place.name == "local" and max(replicas) > 1:
        raise UsageError(
            "the executor 'local' has one worker for a stage: several replicas need one with processes of its own, "
            "such as --executor multiprocessing"
        )
    plan = pipeline.plan(place, host=host)
    chosen = _stage(plan, stage)
    with use_host(host):
        records = _input(plan, chosen, limit, host)
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
    if history is not None:
        before = last_alike(history, report.basis, BatchSizeReport.from_dict)
        append(history, report.to_dict())
        report = attrs.evolve(report, before=before)
    return report


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
    # an ASR stage that plans by length would not look at a number of records
    fixed: dict[str, Any] = {} if own.get("batching", "static") == "static" else {"batching": "static"}
    unset: dict[str, Any] = {"initial_batch_size": None} if own.get("initial_batch_size") is not None else {}
    settings = [{**unset, **fixed, "batch_size": size} for size in sorted({1, *sizes})]
    settings += [{**unset, "batching": "length", "max_batch_s": float(budget)} for budget in sorted(set(budgets))]
    return [*settings, *([{}] if fixed or unset else [])]


def _stage(plan: Plan, name: str | None) -> ProcessingStage:
    stages = {one.name: one.stage for one in plan.stages if isinstance(one.stage, ProcessingStage)}
    if name is not None:
        if name not in stages:
            raise UsageError(f"there is no stage {name!r} to measure; there are {', '.join(stages)}")
        return stages[name]
    for stage in stages.values():
        if type(stage).batch_size > 1:
            return stage
    raise UsageError("no stage of this pipeline works in batches; name one")


def _input(plan: Plan, stage: ProcessingStage, limit: int, host: PluginHost) -> list[Record]:
    """Return the records that come to the stage, of the first `limit` of the input."""
    source = cast("Source", plan.stages[0].stage)
    records = [record for record in islice(source.read(), limit) if not isinstance(record, Failed)]
    earlier = takewhile(lambda planned: planned.stage is not stage, plan.stages[1:])
    before = [planned.stage for planned in earlier if not isinstance(planned.stage, Writer | Partitioner)]
    if before:
        passes = RepeatedRecords(records, 1, plan.audio_roots)
        records = list(Pipeline("bench-input", [passes, *before]).run(host=host).records())
    if not records:
        raise UsageError(f"no records come to stage {stage.name!r}; see what `curate run` does with them")
    return records


def _as_yaml(value: Any) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
