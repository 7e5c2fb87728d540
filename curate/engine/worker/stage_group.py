"""Runs the fused stages of one hop on a batch inside a worker, so that one bad record costs one record.

A batch that raises, or that comes back with a record lost, repeated or invented, is split until the guilty record is
alone; every attempt starts from the records as they were when they reached the stage. Records that have left the last
stage are acknowledged immediately, with everything that became of their root.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import attrs
from loguru import logger

from curate.audio import AudioLength, RecordingCache
from curate.engine.protocol.activity import ActivityReporter
from curate.engine.protocol.messages import AUDIO_MEASURES, BatchTask, NewFile, OutputRow, PartialResult
from curate.engine.protocol.transport import Blamed
from curate.engine.worker.audio_pass import AudioPass
from curate.engine.worker.audio_source import AudioSource
from curate.engine.worker.batch_step import BatchStep
from curate.engine.worker.error_classification import describe_exception, is_interrupt
from curate.engine.worker.new_audio import NewAudio
from curate.engine.worker.outcomes import OutcomeCollector
from curate.engine.worker.record_step import RecordStep
from curate.engine.worker.snapshot import copies_of
from curate.errors import InfrastructureError
from curate.monitoring import add_measures, add_to
from curate.records import DEFAULT_FILEPATH_KEY, Record
from curate.stage import ProcessingStage, RecordStage, WorkerContext, called_method

_SETUP_OBJECTS = 100_000
"""New objects between two garbage collections during a set-up.

With Python's own 700, the collections are a sixth of the time of importing NeMo and loading a model. The peak of memory
is the same: of a million objects, a few thousand are garbage.
"""


class StageGroupRunner:
    """The fused stages of one hop, as one worker runs them.

    Args:
        stages: this worker's own copies, in order.
        context: what the stages may know about the run.
        encode: turns a kept record into what is sent to the driver; None: it is sent as it is.
        blamed: the stages that are named when a record cannot be encoded, as in `HopSpec`.
        reporter: learns which of the batch's records, or which of their children, are about to be touched.
    """

    def __init__(
        self,
        stages: Sequence[ProcessingStage],
        *,
        context: WorkerContext,
        encode: Callable[[Record], OutputRow] | None = None,
        blamed: Blamed | None = None,
        reporter: ActivityReporter | None = None,
    ) -> None:
        self._new_audio: NewAudio | None = None
        """Made when a stage first writes audio."""
        self._shards: list[tuple[str, int, str]] = []
        """The shards that hold the batch at work, until its result is sent."""
        self._outcomes: OutcomeCollector | None = None
        self._audio: AudioSource | None = None
        """Made when a stage first needs audio."""
        self._on_block = _report_nothing if reporter is None else reporter.progress
        self._context = context
        for stage in stages:
            object.__setattr__(stage, "context", self._context_of(stage))  # the stage's class may be frozen
        self._stages = stages
        self._audio_measures = AUDIO_MEASURES + "+".join(stage.name for stage in stages)
        self._steps = list(self._make_steps(reporter))
        self._encode = encode
        self._blamed: Blamed = {} if blamed is None else blamed
        self._reporter = reporter
        self._measuring = [stage for stage in stages if type(stage).take_measures is not ProcessingStage.take_measures]
        self._measured: dict[str, Any] = {}
        self._set_up: list[ProcessingStage] = []

    def _context_of(self, stage: ProcessingStage) -> WorkerContext:
        context = attrs.evolve(self._context, recordings=self._recordings, correct_duration=self._correct_duration)
        if context.run_directory is None:
            return context
        column: Any = getattr(stage, "filepath_key", None)
        key = column if isinstance(column, str) else DEFAULT_FILEPATH_KEY
        new_audio = partial(self._write_audio, context.run_directory, key)
        return attrs.evolve(context, new_audio=new_audio, new_shard=self._add_shard)

    def _add_shard(self, path: str, size: int, sha256: str) -> None:
        if self._outcomes is not None:
            self._outcomes.track_individually()
        self._shards.append((path, size, sha256))

    def _recordings(self, filepath_key: str) -> RecordingCache:
        return self._source().recordings(filepath_key)

    def _correct_duration(self, record: Record, length: AudioLength) -> None:
        self._source().correct_duration(record, length)

    def _source(self) -> AudioSource:
        if self._audio is None:
            self._audio = AudioSource(self._context, self._on_block)
        return self._audio

    def _write_audio(self, run_directory: str, key: str, record: Record, samples: Any, rate_hz: int) -> Record:
        if self._new_audio is None:
            self._new_audio = NewAudio(run_directory)
            if self._outcomes is not None:
                self._new_audio.begin(self._outcomes)
        return self._new_audio.write(record, samples, rate_hz, filepath_key=key)

    def _make_steps(self, reporter: ActivityReporter | None) -> Iterator[RecordStep | BatchStep | AudioPass]:
        stages, level = self._stages, 0
        last_batch_stage = max((level for level, stage in enumerate(stages) if not _takes_records(stage)), default=-1)
        while level < len(stages):
            stage, streams = stages[level], level > last_batch_stage
            end = _end_of_pass(stages, level)
            if end > level:
                of_pass = [cast("RecordStage", each) for each in stages[level:end]]
                yield AudioPass(of_pass, level, reporter, self._source(), streams=streams)
                level = end
                continue
            if _takes_records(stage):
                yield RecordStep(cast("RecordStage", stage), level, reporter, streams=streams)
            else:
                yield BatchStep(stage, level, reporter)
            level += 1

    def setup(self) -> None:
        """Set up every stage.

        Raises:
            InfrastructureError: a stage cannot be set up; no record is to blame.
        """
        thresholds = gc.get_threshold()
        usual = 0 < thresholds[0] < _SETUP_OBJECTS  # not off, and not raised by another set-up in this process
        if usual:
            gc.set_threshold(_SETUP_OBJECTS, *thresholds[1:])
        try:
            for stage in self._stages:
                try:
                    stage.setup()
                except InfrastructureError:
                    raise
                except BaseException as error:
                    if is_interrupt(error):
                        raise
                    message = f"stage {stage.name!r} cannot be set up: {describe_exception(error)}"
                    raise InfrastructureError(message) from error
                self._set_up.append(stage)
        finally:
            if usual:
                gc.set_threshold(*thresholds)

    def teardown(self) -> None:
        """Tear down every stage that was set up, the last first. One that raises is logged; its work is done."""
        for step in self._steps:
            if isinstance(step, AudioPass):
                step.close()
        while self._set_up:
            stage = self._set_up.pop()
            try:
                stage.teardown()
            except BaseException as error:
                if is_interrupt(error):
                    raise
                logger.opt(exception=error).warning("stage {!r} raised in teardown()", stage.name)
        if self._audio is not None:
            self._audio.release()

    def run(self, task: BatchTask, reread: Callable[[], list[Record]] | None = None) -> Iterator[PartialResult]:
        """Yield the outcomes of a batch's records as they are known; together they name every record once.

        Args:
            task: the batch.
            reread: returns its records once more, as they came, where that is possible; the records are then the
                runner's own. Without it the stages get copies, as from another process.
        """
        self._outcomes = outcomes = OutcomeCollector(task, self._encode, self._blamed, len(self._stages))
        self._shards = []
        if self._new_audio is not None:
            self._new_audio.begin(outcomes)
        if self._reporter is not None:
            self._reporter.begin(task.number, outcomes.ids)
        records = task.records
        if reread is None:
            records, reread = copies_of(task.records), lambda: copies_of(task.records)
        for kept in self._flow(0, records, task, outcomes, reread):
            outcomes.keep(kept)
            yield from self._results(outcomes)
        yield from self._results(outcomes)

    def _flow(
        self,
        level: int,
        records: list[Record],
        task: BatchTask,
        outcomes: OutcomeCollector,
        reread: Callable[[], list[Record]] | None = None,
    ) -> Iterator[list[Record]]:
        """Yield the records that leave the last stage, in parts."""
        if level == len(self._steps):
            yield records
            return
        for out in self._steps[level].apply(records, task, outcomes, reread):
            if out:
                yield from self._flow(level + 1, out, task, outcomes)

    def _results(self, outcomes: OutcomeCollector) -> Iterator[PartialResult]:
        """Yield the finished outcomes, if there are any, with the stages' measures since the last result."""
        result = outcomes.take()
        if result is None:
            return
        if self._new_audio is not None:
            self._new_audio.acknowledge(result)
        if self._shards and result.kept_roots:
            first = result.kept_roots[0]
            result.files.extend(NewFile(first, *shard, kind="shard") for shard in self._shards)
            self._shards = []
        if self._audio is not None and (measures := self._audio.take_measures()):
            result.measures[self._audio_measures] = measures
        for stage in tuple(self._measuring):
            try:
                measures = add_measures(stage.take_measures())
                json.dumps(measures, allow_nan=False)
                add_to(self._measured, {stage.name: measures})  # the driver adds them up; here a failure does no harm
            except BaseException as error:
                if is_interrupt(error):
                    raise
                self._measuring.remove(stage)
                logger.opt(exception=error).warning(
                    "stage {!r} raised in take_measures(); the run continues without its measures", stage.name
                )
            else:
                if measures:
                    result.measures[stage.name] = measures
        yield result


def _end_of_pass(stages: Sequence[ProcessingStage], level: int) -> int:
    """Return the place behind the pass that begins at a level: behind the last audio stage before a stage that takes
    batches. It is the level itself where no pass begins.
    """
    if not stages[level].takes_audio:
        return level
    last = level
    for place in range(level, len(stages)):
        if not _takes_records(stages[place]):
            break
        if stages[place].takes_audio:
            last = place
    return last + 1


def _report_nothing() -> None:
    """Used in the driver's own process, a worker reports no progress."""


def _takes_records(stage: ProcessingStage) -> bool:
    return called_method(stage) == "process_record"
