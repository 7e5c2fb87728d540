"""Runs a stage that is called with a batch, and isolates the record that it fails on by splitting the batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, cast

import attrs

from curate.engine.protocol.activity import ActivityReporter
from curate.engine.protocol.messages import BatchTask
from curate.engine.worker.batch_contract import BatchContract
from curate.engine.worker.cardinality import describe_type
from curate.engine.worker.error_classification import as_infrastructure, classify, is_infrastructure, is_interrupt
from curate.engine.worker.outcomes import OutcomeCollector
from curate.engine.worker.snapshot import Snapshot
from curate.records import ID, AudioBatch, Record, records_of
from curate.stage import ProcessingStage, called_method


class BatchStep:
    """One stage of a group that processes batches.

    Args:
        level: the stage's place in the group.
        reporter: learns which records are about to be touched.
    """

    def __init__(self, stage: ProcessingStage, level: int, reporter: ActivityReporter | None) -> None:
        self._stage = stage
        self._level = level
        self._reporter = reporter
        self._streams = called_method(stage) == "stream"
        self._open: tuple[BatchContract, OutcomeCollector] | None = None
        """The call that the stage is in, for what it announces through its context."""
        object.__setattr__(stage, "context", attrs.evolve(stage.context, announce=self._announce))

    def apply(
        self,
        records: list[Record],
        task: BatchTask,
        outcomes: OutcomeCollector,
        reread: Callable[[], list[Record]] | None,
    ) -> Iterator[list[Record]]:
        """Yield the records for the next stage."""
        groups = [(records, 1)]  # groups of records to process, and which attempt at each it is; the last one is next
        while groups:
            records, attempts = groups.pop()
            before, reread = Snapshot(records, reread), None  # only the whole batch can be read again
            batch = AudioBatch(list(records), task.filepath_key, task.task_id, task.dataset_name)
            left = yield from self._attempt(batch, before, attempts, outcomes)
            groups.extend(reversed(left))

    def _attempt(
        self, batch: AudioBatch, before: Snapshot, attempts: int, outcomes: OutcomeCollector
    ) -> Generator[list[Record], None, list[tuple[list[Record], int]]]:
        """Call the stage, hand on what is in order, and return the groups of records to process again."""
        contract = BatchContract(self._stage, batch, before, outcomes)
        if not self._streams:
            self._report(batch.data, contract, outcomes)
        outputs = self._outputs(batch)
        outs: list[AudioBatch] | None = []
        while outs is not None:
            started = time.perf_counter()
            self._open = contract, outcomes
            try:
                outs = next(outputs, None)
                handed_on = contract.accept(outs)
            except BaseException as error:
                if is_interrupt(error):
                    raise
                if is_infrastructure(error):
                    raise as_infrastructure(error, self._stage.name)  # noqa: B904 (it names its cause)
                if self._stage.whole_batches:
                    raise as_infrastructure(error, self._stage.name)  # noqa: B904 (it names its cause)
                # nothing may hold on to the error, whose traceback pins whatever memory the stage had in use
                return self._bisect(contract, error, attempts, outcomes)
            finally:
                self._open = None
                outcomes.add_busy(self._level, time.perf_counter() - started)
            if self._reporter is not None and (outs is None or not self._streams):
                self._reporter.idle(self._level)
            for out in handed_on:
                yield out.data
        return []

    def _announce(self, records: Sequence[Record]) -> None:
        """Report the records that the stage announces; announcements after the end of its call are ignored."""
        if self._open is not None:
            self._report(records, *self._open)

    def _report(self, records: Sequence[Record], contract: BatchContract, outcomes: OutcomeCollector) -> None:
        contract.suspects = ids = [record[ID] for record in records]
        if self._reporter is not None:
            positions = self._reporter.positions(outcomes.roots_of(ids))
            if not isinstance(positions, range):
                positions = list(dict.fromkeys(positions))  # of children of one record, once
            self._reporter.announce(self._level, positions)

    def _outputs(self, batch: AudioBatch) -> Iterator[list[AudioBatch]]:
        if self._streams:
            for part in self._stage.stream(batch):
                yield _batches(part, self._stage)
        else:
            result: Any = self._stage.process(batch)
            yield _batches(result, self._stage)

    def _bisect(
        self, contract: BatchContract, error: BaseException, attempts: int, outcomes: OutcomeCollector
    ) -> list[tuple[list[Record], int]]:
        """Return the unfinished records of a failed attempt, in groups that narrow down the guilty record.

        The records that the stage had announced are tried apart from the others; where it announced none or all of
        them, in halves. So a stage that announces k records of n costs about log2(k) more calls, and not log2(n).
        """
        left = [record for record in contract.before.records() if record[ID] in contract.waiting]
        if not left:  # the stage raised after it had returned every record: no record is to blame
            raise as_infrastructure(error, self._stage.name)
        if len(left) == 1:
            if attempts <= self._stage.retries:
                return [(left, attempts + 1)]
            outcomes.quarantine(left[0], self._stage.name, *classify(error, self._stage, left[0]), attempts)
            return []
        suspected = contract.waiting.keys() & contract.suspects
        if 0 < len(suspected) < len(left):
            groups = (
                [record for record in left if record[ID] in suspected],
                [record for record in left if record[ID] not in suspected],
            )
        else:
            half = (len(left) + 1) // 2
            groups = left[:half], left[half:]
        return [(group, 1) for group in groups]


def _batches(outs: Any, stage: ProcessingStage) -> list[AudioBatch]:
    """Return a stage's result as a list of batches of records.

    Raises:
        TypeError: it is something else.
    """
    items = cast("list[Any]", outs) if isinstance(outs, list) else [outs]
    for item in items:
        if not isinstance(item, AudioBatch):
            given = cast("object", item)
            what = "a list of dicts" if isinstance(item, dict) and items is outs else describe_type(given)
            raise TypeError(f"stage {stage.name!r} returned {what}; return the batch, or a list of batches")
        item.data = records_of(item.data)  # whatever can be read once is read here
    return items
