"""Runs a plan: phase after phase through the scheduler into the store, then the writers, then the summary."""

from __future__ import annotations

import gc
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import attrs
from loguru import logger

from curate.audio import Spool
from curate.audio.files import roots_in_run
from curate.audio.spool_folder import check_spool_directory, run_folder
from curate.engine.accounting.counts import FinishedInputs, RecordCounts, add_stage_counts, follow_stages, stage_counts
from curate.engine.durability.commit import CommitBuffer, id_checksum_of
from curate.engine.durability.damage import damaged_run
from curate.engine.durability.directory_store import DirectoryStore
from curate.engine.durability.inputs import read_unchanged
from curate.engine.durability.positions import InputPositions
from curate.engine.durability.progress_file import ProgressFile
from curate.engine.durability.run_directory import RunDirectory
from curate.engine.durability.store import MemoryStore, Store
from curate.engine.phase_input import InputBatches, run_gather, without_stages
from curate.engine.protocol.events import (
    RecordQuarantined,
    RunFinished,
    RunProgress,
    RunStarted,
    RunStopped,
    UnitCommitted,
)
from curate.engine.protocol.messages import Filtered, JoinedPart
from curate.engine.protocol.options import Retry, RunOptions
from curate.engine.protocol.run_status import RunStatus
from curate.engine.protocol.transport import Executor, HopSpec
from curate.engine.run_problem import run_problem
from curate.engine.run_result import RunResult
from curate.engine.scheduling.scheduler import PhaseInput, Scheduler
from curate.engine.summary import check_phase, may_measure, outcomes_before, run_counts, summarise, top_failures
from curate.engine.worker.error_classification import driver_errors
from curate.errors import BudgetExceededError, InfrastructureError, UsageError
from curate.io.failpoints import failpoint
from curate.io.rows import encode_row
from curate.plan import Phase, Plan
from curate.plural import counted, have
from curate.records import Failed, Record
from curate.stage import ShardPublisher, Source, WorkerContext
from curate.storage import read_json, write_json

DRAIN_S = 10.0
"""The time in which batches in flight may still finish after an interrupt."""


SPOOL_FOLDER = "spool"
"""The folder of decoded recordings that are too long for memory; it is scratch, and removed after each phase."""

PROGRESS_EVERY_S = 0.05
"""The interval of the progress events of a phase, in addition to those at its beginning and end."""


class Observers(Protocol):
    """The receivers of a run's events; the plugin host is one."""

    def on_run_started(self, event: RunStarted) -> None: ...
    def on_progress(self, event: RunProgress) -> None: ...
    def on_unit_committed(self, event: UnitCommitted) -> None: ...
    def on_record_quarantined(self, event: RecordQuarantined) -> None: ...
    def on_run_stopped(self, event: RunStopped) -> None: ...
    def on_run_finished(self, event: RunFinished) -> None: ...


@contextmanager
def frozen_gc() -> Generator[None]:
    """Keep the garbage collector from traversing the objects that exist already, which takes a fifth of a run.

    Does nothing if the caller has frozen objects itself. Garbage that exists at the start stays until the end: to
    collect it first takes longer than a short run.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def run_plan(
    plan: Plan, executor: Executor, run_dir: Path | None, observers: Observers, options: RunOptions | None = None
) -> RunResult:
    """Run a checked plan to its end.

    Args:
        plan: the plan.
        executor: the executor of its hops.
        run_dir: the run directory; None: results are kept in memory.
        observers: the receivers of its events.
        options: the options of this attempt.

    Raises:
        RunDirectoryError: the directory holds something else, or another driver uses it.
        InfrastructureError: the run cannot continue; committed results stay, and the same command resumes the run.
        BudgetExceededError: too many records have failed; committed results stay.
        AccountingError: the books do not balance.
    """
    options = options or RunOptions()
    if options.spool_directory is not None:
        check_spool_directory(options.spool_directory, UsageError)
    began = time.monotonic()
    if run_dir is None:
        return _Run(plan, executor, None, MemoryStore(), observers, options, None).run(began)
    source = plan.stages[0].stage
    count = source.count if isinstance(source, Source) else lambda: None
    state = ProgressFile(options.fork or run_dir, executor.name, len(plan.phases), count)
    with RunDirectory.held(run_dir, plan, options, on_beat=state.beat) as directory:
        return _Run(plan, executor, directory.path, directory.store, observers, options, state).run(began)


@attrs.frozen
class _Run:
    """One attempt of a run."""

    plan: Plan
    executor: Executor
    directory: Path | None
    store: Store
    observers: Observers
    options: RunOptions
    state: ProgressFile | None

    def run(self, began: float) -> RunResult:
        plan, store = self.plan, self.store
        if self.options.retry is not None:
            self._choose(self.options.retry)
        done = len(store.done(0))
        stages = tuple(stage.name for stage in plan.stages)
        self.observers.on_run_started(RunStarted(plan.name, self.directory, stages, done, self.executor.name))
        try:
            try:
                with frozen_gc():
                    outputs, worked_s = self._phases()
            except OSError as error:  # of the driver's own files; errors of stages are classified before
                where = error.filename or self.directory or "a file"
                raise InfrastructureError(f"{where}: {error.strerror or error}") from error
            finally:
                self.executor.close()
            wall_s = time.monotonic() - began
            summary = summarise(plan, store, outputs, executor=self.executor.name, wall_s=wall_s, worked_s=worked_s)
            problem = run_problem(summary, self.options.budget, self.directory)
            if problem:
                summary = {**summary, "problem": problem}
            _warn_about_audio(summary)
            if self.directory is not None:
                failpoint("summary.before_write")
                damage = store.notes_damage() if summary["filtered"] or summary["quarantined"] else ()
                damaged = {"damaged": {each.path: each.loss for each in damage}} if damage else {}
                write_json(self.directory / "summary.json", {**summary, **damaged})
                if damage:
                    raise damaged_run(self.directory, damage)
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            message = str(error) or ("interrupted" if isinstance(error, KeyboardInterrupt) else type(error).__name__)
            if self.state is not None:
                self.state.end(RunStatus.INTERRUPTED if interrupted else RunStatus.FAILED, message.splitlines()[0])
            self.observers.on_run_stopped(RunStopped(self.directory, interrupted, " ".join(message.split())))
            raise
        if self.state is not None:
            self.state.end(RunStatus.FINISHED)
        self.observers.on_run_finished(RunFinished(self.directory, summary))
        memory = store if isinstance(store, MemoryStore) else None
        return RunResult(summary, tuple(outputs), self.directory, store.reader(plan.phases[-1].number), memory)

    def _choose(self, retry: Retry) -> None:
        """Mark the failed records that are to be retried as not done.

        Raises:
            UsageError: there are none, and no earlier retry is unfinished.
        """
        chosen: dict[int, set[int]] = {}
        for phase, note in self.store.failures():
            if retry.chooses(note):
                chosen.setdefault(phase, set()).add(note["position"])
        if not chosen:
            if not self._is_finished():  # a retry was interrupted after it had processed these records
                return
            raise UsageError(f"no record has failed{retry.described()} in {self.directory}; see curate quarantine list")
        cast("DirectoryStore", self.store).retry(chosen)

    def _is_finished(self) -> bool:
        """Return whether the last summary covers all commits."""
        if not all(self.store.is_complete(phase.number) for phase in self.plan.phases):
            return False
        summary = {} if self.directory is None else read_json(self.directory / "summary.json")
        books = run_counts(self.plan, self.store)
        return (summary.get("kept"), summary.get("quarantined")) == (books.kept, books.quarantined)

    def _phases(self) -> tuple[list[Path], float]:
        """Run the unfinished phases and publish; return the files, and the seconds of audio processed."""
        outputs: list[Path] = []
        worked_s = 0.0
        for phase in self.plan.phases:
            done = self.store.is_complete(phase.number)
            while not done:
                phase_run = _PhaseRun(self, phase)
                done = phase_run.run()
                worked_s = max(worked_s, phase_run.worked_ms / 1000)
            kept = phase.writers and any(commit.books.kept for commit in self.store.commits(phase.number))
            for planned in phase.writers if kept else ():  # an empty set would look like a result
                with driver_errors(planned.name):
                    directory = self.directory or Path()
                    stage = copy(planned.stage)
                    outcomes = outcomes_before(self.plan, self.store, phase.number)
                    object.__setattr__(stage, "outcomes", outcomes)  # of a frozen class as well
                    object.__setattr__(stage, "planned_columns", sorted(planned.columns or ()))
                    if isinstance(stage, ShardPublisher):
                        published = stage.publish(self.store.shards(phase.number), directory)
                    else:
                        published = stage.write(self.store.reader(phase.number), directory)
                logger.info("{} wrote {}", planned.name, ", ".join(map(str, published)))
                outputs.extend(published)
        return outputs, worked_s

    def before(self, phase: int) -> tuple[int, int]:
        """Return the number of failed records in the phases before, and the number that the largest one processed."""
        books = [[commit.books for commit in self.store.commits(number)] for number in range(phase)]
        failed = sum(each.quarantined for of_phase in books for each in of_phase)
        return failed, max((sum(each.processed for each in of_phase) for of_phase in books), default=0)


class _PhaseRun:
    """One phase in one attempt of a run."""

    def __init__(self, run: _Run, phase: Phase) -> None:
        self._plan = run.plan
        self._phase = phase
        self._executor = run.executor
        self._store = run.store
        self._observers = run.observers
        self._options = run.options
        self._directory = run.directory
        self._state = run.state
        shared = run.options.spool_directory
        self._spool = None if run.directory is None else run.directory.absolute() / SPOOL_FOLDER
        """Where the decoded recordings of the run lie on each node; None: each worker has a temporary folder."""
        if shared is not None:
            self._spool = shared.absolute() / run_folder(run.directory)
        self._places = run.store.places(phase.number)
        self._total = _count_input(phase, self._places)
        self._retried = run.store.retried(phase.number)
        self._redo = run.store.redo(phase.number) if run.store.commits(phase.number) else None
        self._clock = run.options.clock
        self._new_unit = partial(
            CommitBuffer, self._places, self._retried, unit_bytes=self._options.unit_bytes, clock=self._clock
        )
        self._unit = self._new_unit(after=len(self._store.commits(phase.number)))
        self._scheduler: Scheduler | None = None
        self._gathered: Generator[Record | Filtered | JoinedPart] | None = None
        self._counts = RecordCounts()
        """The finished inputs, committed or not; this attempt's audio is not in it, but in `_audio_ms`."""
        self._audio_ms = 0
        """The audio of the finished inputs, with the lengths that stages have measured."""
        self._failed_before, self._worked_on_before = run.before(phase.number)
        self._over_budget = ""
        """The limit of the error budget that was exceeded; from then on no batch is started."""
        self._stages = tuple(planned.name for planned in phase.stages())
        self._first_stage = next(iter(self._stages), "")
        self._stage_counts: dict[str, dict[str, int]] = {}
        """The outcomes at each stage, committed or not."""
        self._began = self._clock()
        self._reported_s = float("-inf")
        self._ready_s: float | None = None
        self._is_active = False
        """Whether the workers have shown which stages are at work since the last result."""
        self.worked_ms = 0
        for commit in self._store.commits(phase.number):
            self._counts.add(commit.books)
            add_stage_counts(self._stage_counts, commit.stages)
        self._audio_ms = self._counts.in_ms + self._counts.measured_ms

    def run(self) -> bool:
        """Run the phase to its end, and return whether it is complete: a damaged unit may need a second run of it."""
        try:
            return self._run()
        finally:
            # The two refer to each other, so both, with all records, would stay until a garbage collection.
            self._scheduler = None
            if self._gathered is not None:
                self._gathered.close()  # removes its temporary files

    def _run(self) -> bool:
        if self._state is not None:
            self._state.begin(self._total)
        self._report_progress()
        self._check_budget()
        partitioner = self._phase.partitioner if self._phase.hops else None  # batches are cut for workers
        batches = InputBatches(
            self._items(),
            first_stage=self._first_stage,
            partitioner=None if partitioner is None else partitioner.stage,
            positions=self._places,
            done=self._store.done(self._phase.number),
            done_checksum=id_checksum_of(self._store.commits(self._phase.number)),
            settle=self._settled_in_feed,
            stop=self._options.stop,
            again=None if self._redo is None else self._redo.again,
        )
        try:
            if self._phase.hops:
                self._process(self._until_stopped(iter(batches)))
            else:
                encode = encode_row if self._store.encodes else None
                for settled in without_stages(self._until_stopped(iter(batches)), encode, self._phase.blamed()):
                    self._settle(settled)
        except (InfrastructureError, KeyboardInterrupt):
            with suppress(InfrastructureError):
                self._commit()  # finished inputs need not be done again
            raise
        self._commit()
        self._check_budget()
        if self._options.stop.asked:
            raise KeyboardInterrupt
        if self._redo is not None:
            self._redo.check_complete()
            if self._redo.escalated:
                return False
        check_phase(self._phase, self._store)
        self._store.complete(self._phase.number)
        self._report_progress(ended=True)
        return True

    def _process(self, incoming: PhaseInput) -> None:
        """Process the phase's input in the workers of the executor."""
        hops, context, blamed = self._phase.hops, self._context(), self._phase.blamed()
        transport = self._executor.open(
            [HopSpec(hop, context, encodes=self._store.encodes and hop is hops[-1], blamed=blamed) for hop in hops]
        )
        try:
            on_ready = partial(self._report_progress, ready=True)
            self._scheduler = Scheduler(
                transport,
                hops,
                stopping=self._is_stopping,
                on_ready=on_ready,
                on_activity=self._note_activity,
                clock=self._clock,
            )
            try:
                for settled in self._scheduler.run(incoming):
                    self._settle(settled)
            except KeyboardInterrupt:  # a second one does not wait for batches in flight
                if self._options.stop.asked:
                    raise
                logger.info("stopping: batches in flight have {:g} s to finish", DRAIN_S)
                for settled in self._scheduler.drain(DRAIN_S):
                    self._settle(settled)
                raise
        finally:
            transport.close()
            if self._spool is not None and self._spool.is_dir():
                Spool.remove(self._spool)

    def _context(self) -> WorkerContext:
        """Return the context of the stages in workers."""
        roots, directory, spool = self._plan.audio_roots, self._directory, self._spool
        return WorkerContext(
            audio_roots=roots if directory is None else roots_in_run(roots, directory),
            schemes=self._plan.schemes,
            audio=self._plan.audio,
            audio_memory_bytes=self._options.audio_memory_bytes,
            run_directory=None if directory is None else str(directory.absolute()),
            spool_directory=None if spool is None else str(spool),
            spool_bytes=self._options.spool_bytes,
        )

    def _until_stopped(self, incoming: PhaseInput) -> PhaseInput:
        """Yield the input until the run is to stop; batches in flight are still finished."""
        while not self._is_stopping() and (batch := next(incoming, None)) is not None:
            yield batch

    def _is_stopping(self) -> bool:
        return bool(self._over_budget) or self._options.stop.asked

    def _look_at_budget(self) -> None:
        """Record whether too many records have failed, which is final."""
        failed = self._failed_before + self._counts.quarantined
        processed = max(self._worked_on_before, self._counts.processed)
        self._over_budget = self._over_budget or self._options.budget.exceeded(failed, processed)

    def _check_budget(self) -> None:
        """Stop if too many records have failed.

        Raises:
            BudgetExceededError: names the most frequent failures, each with an example.
        """
        self._look_at_budget()
        if self._over_budget:
            failed, done = self._failed_before + self._counts.quarantined, self._counts.records_in
            raise BudgetExceededError(
                f"{counted(failed)} {have(failed)} failed, more than {self._over_budget} allows; {counted(done)} of "
                f"phase {self._phase.number} {'is' if done == 1 else 'are'} done\n{top_failures(self._store)}\n"
                "To continue anyway, allow more with --max-failures or --max-failure-ratio; after the cause is fixed, "
                "curate quarantine retry processes failed records again"
            )

    def _items(self) -> Iterator[Record | Failed | Filtered | JoinedPart]:
        phase = self._phase
        if phase.source is not None:
            return read_unchanged(phase.source.stage)
        reader = self._store.reader(phase.number - 1)
        if phase.gather is not None:
            self._gathered = run_gather(phase.gather.stage, reader, self._directory)
            return self._gathered
        return iter(reader)

    def _settle(self, settled: FinishedInputs) -> None:
        self._is_active = False
        for outcomes in (settled,) if self._redo is None else self._redo.take(settled):
            if self._unit.name:  # its commit was interrupted and may be on disk: commit it before adding to it
                self._commit()
            self._unit.add(outcomes)
            self._counts.records_in += len(outcomes.seqs)
            self._counts.kept += len(outcomes.rows)
            self._counts.filtered += len(outcomes.filtered)
            self._counts.quarantined += len(outcomes.quarantined)
            self._counts.split += len(outcomes.splits)
            self._counts.children += sum(split.children for split in outcomes.splits)
            joins = sum(note.joins for _, note in outcomes.joined)
            self._counts.records_in -= joins
            self._counts.joins += joins
            self._counts.joined += len(outcomes.joined)
            if outcomes.is_plain:
                self._audio_ms += outcomes.kept_ms
            else:
                books = outcomes.books()
                self._audio_ms += books.in_ms + books.measured_ms
                add_stage_counts(self._stage_counts, stage_counts(outcomes))
            for _, note in outcomes.quarantined:
                self._observers.on_record_quarantined(
                    RecordQuarantined(note.record["_id"], note.stage, note.code, note.message)
                )
            if self._counts.quarantined:
                self._look_at_budget()
            self._report_progress()
            if self._unit.full:
                self._commit()

    def _settled_in_feed(self, settled: FinishedInputs) -> bool:
        """Record inputs that need no work, and return whether the run continues."""
        self._settle(settled)
        return not self._is_stopping()

    def _note_activity(self) -> None:
        """Report the stages at work, which the workers have shown without a result."""
        self._is_active = True
        self._report_progress()

    def _report_progress(self, *, ended: bool = False, ready: bool = False) -> None:
        now = self._clock()
        if ready:
            self._ready_s = now - self._began
        elif not ended and now - self._reported_s < PROGRESS_EVERY_S:
            return
        self._reported_s = now
        flows = follow_stages(self._stages, self._counts.records_in, [self._stage_counts])
        scheduler = self._scheduler
        event = RunProgress(
            phase=self._phase.number,
            stages=self._stages,
            records_in=self._counts.records_in,
            kept=self._counts.kept,
            filtered=self._counts.filtered,
            quarantined=self._counts.quarantined,
            audio_s=self._audio_ms / 1000,
            elapsed_s=now - self._began,
            came=tuple(flow.records_in for flow in flows),
            workers=(0,) * len(self._phase.hops) if scheduler is None else scheduler.workers,
            ended=ended,
            total=self._total,
            ready_s=self._ready_s,
            at_work=() if ended or scheduler is None or not self._is_active else scheduler.at_work,
        )
        if self._state is not None:
            self._state.note(event)
        self._observers.on_progress(event)

    def _commit(self) -> None:
        if not self._unit.settled:
            return
        books = self._unit.books()
        _check_audio(self._phase, books)
        books.check(measures_audio=may_measure(self._phase))
        if self._scheduler is not None and not self._unit.name:  # an interrupted commit has already taken them
            self._unit.busy_s, self._unit.measures = self._scheduler.take_busy_s(), self._scheduler.take_measures()
        commit = self._store.commit(self._phase.number, self._unit, self._unit.busy_s)
        self._unit = self._new_unit(after=len(self._store.commits(self._phase.number)))
        self.worked_ms += books.in_ms + books.measured_ms
        self._observers.on_unit_committed(
            UnitCommitted(commit.phase, commit.unit, books.records_in, books.kept, books.filtered, books.quarantined)
        )


def _warn_about_audio(summary: Mapping[str, Any]) -> None:
    """Log what the audio of records differed from the manifest's."""
    mismatches = sum(each.get("duration_mismatches", 0) for each in summary["audio"].values())
    if mismatches:
        logger.warning("{} had a wrong duration; see claimed_duration and the report", counted(mismatches))
    unlike = sum(each.get("unlike_channels", 0) for each in summary["audio"].values())
    if unlike:
        logger.warning(
            "{} {} channels of different content, and the stages processed their mean; "
            "`split_channels` makes a record of each channel",
            counted(unlike),
            have(unlike),
        )


def _count_input(phase: Phase, places: InputPositions) -> int | None:
    """Return how many records a phase will work on, for those who watch; None if it is not known yet."""
    return phase.source.stage.count() if phase.source is not None else places.total


def _check_audio(phase: Phase, books: RecordCounts) -> None:
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
