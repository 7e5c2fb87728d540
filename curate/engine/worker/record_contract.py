"""Holds what a stage returned for one record to its declared cardinality, and decides what becomes of a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from curate.engine.worker.cardinality import (
    ENGINE_COLUMNS,
    REMEDY,
    describe_type,
    number_children,
    reason_of,
    undeclared,
    with_id,
)
from curate.engine.worker.error_classification import as_infrastructure, classify, is_infrastructure, is_interrupt
from curate.engine.worker.outcomes import OutcomeCollector
from curate.engine.worker.snapshot import Snapshot
from curate.errors import StageContractError
from curate.records import ID, Record
from curate.stage import RecordStage, Reject, children_of


class RecordContract:
    """The rules that a stage which is called with one record at a time has to keep, and its retries."""

    def __init__(self, stage: RecordStage) -> None:
        self._stage = stage
        written = stage.writes()
        self.columns = None if written is None else {*ENGINE_COLUMNS, *written}
        """The columns that a record may have after the stage, as far as known; None: the stage declares none."""

    def hold_columns(self, records: list[Record], snapshot: Snapshot, outcomes: OutcomeCollector) -> list[Record]:
        """Put records with a column that the stage neither got nor declares into quarantine; return the others."""
        columns, kept = self.columns, list[Record]()
        for record in records:
            if columns is not None and not columns.issuperset(record):
                identity: str = record[ID]
                before = _record_before(snapshot, identity)
                columns.update(before)
                extra = next((name for name in record if name not in columns and isinstance(name, str)), None)  # pyright: ignore[reportUnnecessaryIsInstance] (third-party code)
                if extra is not None:
                    shown = before if before[ID] == identity else record
                    error = undeclared(self._stage, extra)
                    outcomes.quarantine(shown, self._stage.name, error.code, error.message, "", 1)
                    continue
            kept.append(record)
        return kept

    def interpret(
        self, result: Any, record: Record, snapshot: Snapshot, outcomes: OutcomeCollector, identity: str
    ) -> Iterable[Record]:
        """Hold what the stage returned for one record to its cardinality, and return the records for the next stage.

        Args:
            result: what the stage returned.
            record: the record that it was given, which it may have changed.
            snapshot: the record as it was before.
            identity: the record's id.

        Raises:
            StageContractError, TypeError: the stage returned something else than its cardinality allows.
        """
        stage = self._stage
        if stage.cardinality == "splits" and result is not None and not isinstance(result, Reject):
            children = children_of(result, stage)
            if children:
                return number_children(children, snapshot[identity], stage, outcomes)
        if isinstance(result, dict):
            return [with_id(cast("Record", result), identity)]
        if stage.cardinality == "maps" or (stage.cardinality == "splits" and not isinstance(result, Reject)):
            raise StageContractError(
                "contract_lost",
                f"stage {stage.name!r} {stage.cardinality}, but returned {describe_type(result)} for {identity}; "
                + REMEDY[stage.cardinality],
            )
        if result is not None and not isinstance(result, Reject):
            raise TypeError(
                f"stage {stage.name!r} returned {describe_type(result)}; return the record or Reject(reason)"
            )
        outcomes.filter(with_id(record, identity), stage.name, reason_of(result, stage))
        return ()

    def retry(
        self,
        error: BaseException,
        identity: str,
        snapshot: Snapshot,
        outcomes: OutcomeCollector,
        process: Callable[[Record], Any],
    ) -> Iterable[Record]:
        """Call `process` again with a failed record, `retries` times at most, then put the record into quarantine."""
        attempts = 1
        while True:
            if is_infrastructure(error):
                raise as_infrastructure(error, self._stage.name)
            record = snapshot[identity]
            if attempts > self._stage.retries:
                outcomes.quarantine(record, self._stage.name, *classify(error, self._stage, record), attempts)
                return ()
            try:
                return self.interpret(process(record), record, snapshot, outcomes, identity)
            except BaseException as next_error:
                if is_interrupt(next_error):
                    raise
                error = next_error
                attempts += 1

    def apply(
        self, record: Record, snapshot: Snapshot, outcomes: OutcomeCollector, process: Callable[[Record], Any]
    ) -> Iterable[Record]:
        """Call `process` with a record, as often as `retries` allows, and return the records for the next stage."""
        identity: str = record[ID]
        try:
            after = self.interpret(process(record), record, snapshot, outcomes, identity)
        except BaseException as error:
            if is_interrupt(error):
                raise
            after = self.retry(error, identity, snapshot, outcomes, process)
        return self.hold_columns(list(after), snapshot, outcomes)


def _record_before(snapshot: Snapshot, identity: str) -> Record:
    """Return a record, or the parent of a part, as it was before the stage."""
    try:
        return snapshot[identity]
    except KeyError:
        return snapshot[identity.rpartition("/")[0]]
