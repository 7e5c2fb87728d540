"""Runs a stage that is called with one record at a time, so that the guilty record is always known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from curate.engine.protocol.activity import ActivityReporter
from curate.engine.protocol.messages import BatchTask
from curate.engine.worker.cardinality import with_id
from curate.engine.worker.error_classification import is_interrupt
from curate.engine.worker.outcomes import OutcomeCollector
from curate.engine.worker.record_contract import RecordContract
from curate.engine.worker.snapshot import Snapshot
from curate.records import ID, Record
from curate.stage import RecordStage, Reject

HAND_ON_AFTER_S = 1.0
MAX_ANNOUNCED = 32
_ANNOUNCED_S = 0.002
"""At most this many quick records are announced together, and only while they take less than this time: a worker that
dies on one of them leaves no more suspects than the scheduler isolates one by one (`MAX_ISOLATED`).
"""


class RecordStep:
    """One stage of a group that processes records.

    Args:
        level: the stage's place in the group.
        reporter: learns which records are about to be touched.
        streams: whether finished records are handed on about every second. In front of a stage that takes batches they
            are not: it gets the whole window, because it would plan worse over small batches.
    """

    def __init__(self, stage: RecordStage, level: int, reporter: ActivityReporter | None, *, streams: bool) -> None:
        self._stage = stage
        self._contract = RecordContract(stage)
        self._level = level
        self._reporter = reporter
        self._streams = streams
        self._has_columns = False
        """Whether the columns of the first batch are known; what only later records have is learnt where it is met."""
        self._announced = 1
        """How many records were last announced together; a batch begins with fewer, for it may hold slower ones."""

    def apply(
        self,
        records: list[Record],
        task: BatchTask,
        outcomes: OutcomeCollector,
        reread: Callable[[], list[Record]] | None,
    ) -> Iterator[list[Record]]:
        """Yield the records for the next stage."""
        started = now = time.perf_counter()
        snapshot = Snapshot(records, reread)  # `process_record` may change the record it is given and then fail
        ids: list[str] = [record[ID] for record in records]
        columns = self._contract.columns
        if columns is not None and not self._has_columns:
            columns.update(*records)
            self._has_columns = True
        reporter = self._reporter
        positions = () if reporter is None else reporter.positions(outcomes.roots_of(ids))
        done: list[Record] = []
        start, count = 0, max(1, self._announced // 4)
        while start < len(ids):
            end = start + count
            if reporter is not None:
                reporter.announce(self._level, positions[start:end])
            self._process(records[start:end], ids[start:end], done, snapshot, outcomes)
            start, before, now = end, now, time.perf_counter()
            count = self._announced = min(2 * count, MAX_ANNOUNCED) if now - before < _ANNOUNCED_S else 1
            if self._streams and now - started > HAND_ON_AFTER_S and start < len(ids):
                outcomes.add_busy(self._level, now - started)
                if reporter is not None:  # it processes no record while the stages after it work
                    reporter.idle(self._level)
                if columns is not None and not columns.issuperset(set[str]().union(*done)):
                    done = self._contract.hold_columns(done, snapshot, outcomes)
                yield done
                done, count = [], 1
                started = now = time.perf_counter()
        outcomes.add_busy(self._level, time.perf_counter() - started)
        if reporter is not None:
            reporter.idle(self._level)
        # One set of all keys takes a third of the time of a look at each record, and nearly always has nothing new.
        if columns is not None and not columns.issuperset(set[str]().union(*done)):
            done = self._contract.hold_columns(done, snapshot, outcomes)
        yield done

    def _process(
        self, records: list[Record], ids: list[str], done: list[Record], snapshot: Snapshot, outcomes: OutcomeCollector
    ) -> None:
        """Call the stage with each of some records, and add the records for the next stage to `done`."""
        process, keep = self._stage.process_record, done.append
        maps, splits = self._stage.cardinality == "maps", self._stage.cardinality == "splits"
        filters, name = self._stage.cardinality == "filters", self._stage.name
        for identity, record in zip(ids, records, strict=True):
            try:
                result: Any = process(record)
                # `is`, because a stage may have put something there that cannot be compared
                if result is record and maps and record.get(ID) is identity:  # nearly always
                    keep(record)
                elif type(result) is dict and not splits:
                    # a copy, because a stage may remember what it returned, and change it when it sees a later record
                    keep({**result, ID: identity})
                elif filters and isinstance(result, Reject):
                    outcomes.filter(with_id(record, identity), name, result.reason)
                else:
                    done.extend(self._contract.interpret(result, record, snapshot, outcomes, identity))
            except BaseException as error:
                if is_interrupt(error):
                    raise
                done.extend(self._contract.retry(error, identity, snapshot, outcomes, process))
