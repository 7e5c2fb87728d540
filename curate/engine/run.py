"""Runs a plan: phase after phase through the scheduler into the store, then the writers, then the summary."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, cast

import attrs
from loguru import logger

from curate.engine.blame import in_driver
from curate.engine.books import Books, Settled
from curate.engine.events import RecordQuarantined, RunFinished, RunProgress, RunStarted, RunStopped, UnitCommitted
from curate.engine.feed import feed, gathered
from curate.engine.messages import Filtered, Quarantined
from curate.engine.run_directory import RunDirectory
from curate.engine.scheduler import Scheduler
from curate.engine.store import MemoryStore, Store
from curate.engine.summary import check_phase, may_measure, summarise
from curate.engine.transport import Executor, HopSpec
from curate.engine.unit import Unit, id_sum_of
from curate.errors import InfrastructureError
from curate.io.atomic import write_json
from curate.plan import Hop, Phase, Plan
from curate.records import Failed, Record, RecordReader
from curate.resources import Resources
from curate.stage import Gather, Partitioner, Source, WorkerContext, Writer


class Observers(Protocol):
    """Those who are told what happens; the plugin host is one."""

    def on_run_started(self, event: RunStarted) -> None: ...
    def on_progress(self, event: RunProgress) -> None: ...
    def on_unit_committed(self, event: UnitCommitted) -> None: ...
    def on_record_quarantined(self, event: RecordQuarantined) -> None: ...
    def on_run_stopped(self, event: RunStopped) -> None: ...
    def on_run_finished(self, event: RunFinished) -> None: ...


@attrs.frozen
class RunResult:
    """What a run came to.

    Args:
        summary: what `summary.json` holds.
        outputs: the files that the writers have published.
        run_dir: where the run lies; None: it was kept in memory.
    """

    summary: Mapping[str, Any]
    outputs: tuple[Path, ...]
    run_dir: Path | None
    _reader: RecordReader = attrs.field(repr=False)
    _memory: MemoryStore | None = attrs.field(repr=False)

    def records(self) -> Iterator[Record]:
        """Yield what was kept, in the order of the input."""
        return iter(self._reader)

    @property
    def filtered(self) -> list[Filtered]:
        """What was left out; only for a run in memory, otherwise it lies in `<run_dir>/filtered`."""
        return [] if self._memory is None else self._memory.filtered

    @property
    def quarantined(self) -> list[Quarantined]:
        """What failed; only for a run in memory, otherwise it lies in `<run_dir>/quarantine`."""
        return [] if self._memory is None else self._memory.quarantined


def run_plan(plan: Plan, executor: Executor, run_dir: Path | None, observers: Observers) -> RunResult:
    """Run a checked plan to its end.

    Args:
        plan: what to do.
        executor: where.
        run_dir: where to keep it; None: in memory.
        observers: who is told about it.

    Raises:
        RunDirectoryError: the directory holds something else.
        InfrastructureError: the run cannot go on; what is committed stays, and the same command goes on with it.
        AccountingError: the books do not balance.
    """
    directory = None if run_dir is None else RunDirectory.open(run_dir, plan)
    try:
        return _run(plan, executor, directory, observers)
    except BaseException as error:
        said = " ".join(f"{type(error).__name__}: {error}".removesuffix(": ").split())
        observers.on_run_stopped(RunStopped(run_dir, isinstance(error, KeyboardInterrupt), said))
        raise


def _run(plan: Plan, executor: Executor, directory: RunDirectory | None, observers: Observers) -> RunResult:
    began = time.monotonic()
    run_dir = None if directory is None else directory.path
    memory = MemoryStore() if directory is None else None
    store: Store = cast("Store", memory if directory is None else directory.store)
    done = len(store.done(0))
    stages = tuple(stage.name for stage in plan.stages)
    observers.on_run_started(RunStarted(plan.name, run_dir, stages, done, executor.name))
    outputs: list[Path] = []
    worked_s = 0.0
    for phase in plan.phases:
        if not store.is_complete(phase.number):
            phase_run = _PhaseRun(plan, phase, executor, store, observers)
            phase_run.run()
            worked_s = max(worked_s, phase_run.worked_ms / 1000)
        for planned in phase.writers:
            with in_driver(planned.name):
                published = cast("Writer", planned.stage).write(store.reader(phase.number), run_dir or Path())
            logger.info("{} wrote {}", planned.name, ", ".join(map(str, published)))
            outputs.extend(published)
    wall_s = time.monotonic() - began
    summary = summarise(plan, store, outputs, executor=executor.name, wall_s=wall_s, worked_s=worked_s)
    if run_dir is not None:
        write_json(run_dir / "summary.json", summary)
    observers.on_run_finished(RunFinished(run_dir, summary))
    return RunResult(summary, tuple(outputs), run_dir, store.reader(plan.phases[-1].number), memory)


class _PhaseRun:
    """One phase in one life of a run."""

    def __init__(self, plan: Plan, phase: Phase, executor: Executor, store: Store, observers: Observers) -> None:
        self._plan = plan
        self._phase = phase
        self._executor = executor
        self._store = store
        self._observers = observers
        self._unit = Unit()
        self._scheduler: Scheduler | None = None
        self._counts = {"records_in": 0, "kept": 0, "filtered": 0, "quarantined": 0, "in_ms": 0}
        self._stages = tuple(planned.name for planned in phase.stages())
        self._lost = dict.fromkeys(self._stages, 0)
        """How many fewer records each stage has handed on than came to it."""
        self._began = time.monotonic()
        self._total = _count_input(phase, store)
        self.worked_ms = 0
        for commit in store.commits(phase.number):
            for name in self._counts:
                self._counts[name] += getattr(commit.books, name)
            for stage, counts in commit.stages.items():
                for what, amount in counts.items():
                    self._lose(stage, -amount if what == "children" else amount)

    def run(self) -> None:
        self._tell_progress()
        incoming = feed(
            self._items(),
            first_stage=self._first_stage(),
            partitioner=None if self._phase.partitioner is None else cast("Partitioner", self._phase.partitioner.stage),
            done=self._store.done(self._phase.number),
            done_sum=id_sum_of(self._store.commits(self._phase.number)),
            settle=self._settle,
        )
        context = WorkerContext(audio_roots=self._plan.audio_roots)
        # a phase that has no stages of work, such as a mere merge, still has to store its records
        hops = self._phase.hops or (Hop((), Resources(), 1),)
        transport = self._executor.open(
            [
                HopSpec(
                    hop,
                    context,
                    encodes=self._store.encodes and hop is hops[-1],
                    blamed=hop.stages[-1].name if hop.stages else self._first_stage(),
                )
                for hop in hops
            ]
        )
        try:
            self._scheduler = Scheduler(transport, [self._executor.workers(hop) for hop in hops])
            for settled in self._scheduler.run(incoming):
                self._settle(settled)
        except (InfrastructureError, KeyboardInterrupt):
            with suppress(InfrastructureError):
                self._commit()  # what is finished need not be done again
            raise
        finally:
            transport.close()
        self._commit()
        check_phase(self._phase, self._store)
        self._store.complete(self._phase.number)
        self._tell_progress(ended=True)

    def _items(self) -> Iterator[Record | Failed | Filtered]:
        phase = self._phase
        if phase.source is not None:
            return cast("Source", phase.source.stage).read()
        reader = self._store.reader(phase.number - 1)
        if phase.gather is not None:
            return gathered(cast("Gather", phase.gather.stage), reader)
        return iter(reader)

    def _first_stage(self) -> str:
        first = next(self._phase.stages(), None)
        return "" if first is None else first.name

    def _settle(self, settled: Settled) -> None:
        self._unit.add(settled)
        self._counts["records_in"] += len(settled.seqs)
        self._counts["kept"] += len(settled.rows)
        self._counts["filtered"] += len(settled.filtered)
        self._counts["quarantined"] += len(settled.quarantined)
        self._counts["in_ms"] += settled.in_ms
        for _, note in settled.filtered:
            self._lose(note.stage)
        for split in settled.splits:
            self._lose(split.stage, 1 - split.children)
        for _, note in settled.quarantined:
            self._lose(note.stage)
            self._observers.on_record_quarantined(
                RecordQuarantined(note.record["_id"], note.stage, note.code, note.message)
            )
        self._tell_progress()
        if self._unit.full:
            self._commit()

    def _lose(self, stage: str, amount: int = 1) -> None:
        self._lost[stage] = self._lost.get(stage, 0) + amount

    def _tell_progress(self, *, ended: bool = False) -> None:
        left = self._counts["records_in"]
        came: list[int] = []
        for stage in self._stages:
            came.append(left)
            left -= self._lost[stage]
        self._observers.on_progress(
            RunProgress(
                phase=self._phase.number,
                stages=self._stages,
                records_in=self._counts["records_in"],
                kept=self._counts["kept"],
                filtered=self._counts["filtered"],
                quarantined=self._counts["quarantined"],
                audio_s=self._counts["in_ms"] / 1000,
                elapsed_s=time.monotonic() - self._began,
                came=tuple(came),
                ended=ended,
                total=self._total,
            )
        )

    def _commit(self) -> None:
        if not self._unit.settled:
            return
        books = self._unit.books()
        _check_audio(self._phase, books)
        books.check(measures_audio=may_measure(self._phase))
        busy_s = {} if self._scheduler is None else self._scheduler.take_busy_s(self._phase.hops)
        commit = self._store.commit(self._phase.number, self._unit, busy_s)
        self._unit = Unit()
        self.worked_ms += books.in_ms + books.measured_ms
        self._observers.on_unit_committed(
            UnitCommitted(commit.phase, commit.unit, books.records_in, books.kept, books.filtered, books.quarantined)
        )


def _count_input(phase: Phase, store: Store) -> int | None:
    """Return how many records a phase will work on, for those who watch; None if it is not known yet."""
    if phase.source is not None:
        return cast("Source", phase.source.stage).count()
    return None if phase.gather is not None else sum(commit.rows for commit in store.commits(phase.number - 1))


def _check_audio(phase: Phase, books: Books) -> None:
    """Check that audio is gained or lost only where a stage says so.

    Raises:
        InfrastructureError: names the stages that may have changed `duration`.
    """
    suspects = [planned.name for planned in phase.stages() if planned.kind == "processing"]
    if books.measured_ms and suspects and not may_measure(phase):
        raise InfrastructureError(
            f"the records' audio changes by {books.measured_ms / 1000:+.3f} s in this phase, but none of its stages "
            f"({', '.join(suspects)}) says that it changes 'duration': the one that does must return it from writes()"
        )
