"""Runs the fused stages of one hop on a batch inside a worker, so that one bad record costs one record.

A batch that raises, or that comes back with a record lost, repeated or invented, is split until the guilty record is
alone; every attempt starts from the records as they were when they reached the stage. Records that have left the last
stage are acknowledged immediately, with everything that became of their root.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from loguru import logger

from curate.engine.protocol.activity import ActivityReporter
from curate.engine.protocol.messages import BatchTask, OutputRow, PartialResult
from curate.engine.worker.batch_step import BatchStep
from curate.engine.worker.error_classification import describe_exception, is_interrupt
from curate.engine.worker.outcomes import OutcomeCollector
from curate.engine.worker.record_step import RecordStep
from curate.engine.worker.snapshot import copies_of
from curate.errors import InfrastructureError
from curate.monitoring import add_measures, add_to
from curate.records import Record
from curate.stage import ProcessingStage, RecordStage, WorkerContext, called_method


class StageGroupRunner:
    """The fused stages of one hop, as one worker runs them.

    Args:
        stages: this worker's own copies, in order.
        context: what the stages may know about the run.
        encode: turns a kept record into what is sent to the driver; None: it is sent as it is.
        blamed: the stage that is named when a record cannot be encoded.
        reporter: learns which of the batch's records, or which of their children, are about to be touched.
    """

    def __init__(
        self,
        stages: Sequence[ProcessingStage],
        *,
        context: WorkerContext,
        encode: Callable[[Record], OutputRow] | None = None,
        blamed: str = "",
        reporter: ActivityReporter | None = None,
    ) -> None:
        for stage in stages:
            object.__setattr__(stage, "context", context)  # the stage's class may be frozen
        self._stages = stages
        last_batch_stage = max((level for level, stage in enumerate(stages) if not _takes_records(stage)), default=-1)
        self._steps = [
            RecordStep(cast("RecordStage", stage), level, reporter, streams=level > last_batch_stage)
            if _takes_records(stage)
            else BatchStep(stage, level, reporter)
            for level, stage in enumerate(stages)
        ]
        self._encode = encode
        self._blamed = blamed
        self._reporter = reporter
        self._measuring = [stage for stage in stages if type(stage).take_measures is not ProcessingStage.take_measures]
        self._measured: dict[str, Any] = {}
        self._set_up: list[ProcessingStage] = []

    def setup(self) -> None:
        """Set up every stage.

        Raises:
            InfrastructureError: a stage cannot be set up; no record is to blame.
        """
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

    def teardown(self) -> None:
        """Tear down every stage that was set up, the last first. One that raises is logged; its work is done."""
        while self._set_up:
            stage = self._set_up.pop()
            try:
                stage.teardown()
            except BaseException as error:
                if is_interrupt(error):
                    raise
                logger.opt(exception=error).warning("stage {!r} raised in teardown()", stage.name)

    def run(self, task: BatchTask, reread: Callable[[], list[Record]] | None = None) -> Iterator[PartialResult]:
        """Yield the outcomes of a batch's records as they are known; together they name every record once.

        Args:
            task: the batch.
            reread: returns its records once more, as they came, where that is possible; the records are then the
                runner's own. Without it the stages get copies, as from another process.
        """
        outcomes = OutcomeCollector(task, self._encode, self._blamed, len(self._stages))
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


def _takes_records(stage: ProcessingStage) -> bool:
    return called_method(stage) == "process_record"
