"""Holds what a batch stage returns to its declared cardinality."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from curate.engine.worker.cardinality import ENGINE_COLUMNS, REMEDY, number_children, reason_of, undeclared
from curate.engine.worker.error_classification import classify
from curate.engine.worker.outcomes import OutcomeCollector
from curate.engine.worker.snapshot import Snapshot
from curate.errors import InfrastructureError, StageContractError
from curate.records import ID, AudioBatch, Failed, Record, Rejected
from curate.stage import ProcessingStage


@dataclass(slots=True)
class _Output:
    """One output of a stage: the batches that it returned, and the notes on these and on the batch it was given."""

    batches: Sequence[AudioBatch]
    sources: Sequence[AudioBatch]
    rejected: Sequence[Rejected]
    failed: Sequence[Failed]


class BatchContract:
    """What a batch stage was given in one call, and which records it has not returned yet.

    Every output is collected, checked and booked, in this order; booking cannot fail. So an output counts as a whole or
    not at all, and a stage that breaks its contract leaves nothing behind that a second attempt would count twice.
    """

    def __init__(self, stage: ProcessingStage, batch: AudioBatch, before: Snapshot, outcomes: OutcomeCollector) -> None:
        self._stage = stage
        self._batch = batch
        self._outcomes = outcomes
        self.before = before
        self.ids: list[str] = [record[ID] for record in batch.data]
        self.waiting = dict.fromkeys(self.ids)
        self.suspects: Sequence[str] = ()
        written = stage.writes()
        self._columns = None if written is None else {*ENGINE_COLUMNS, *written}

    def accept(self, batches: list[AudioBatch] | None) -> Sequence[AudioBatch]:
        """Check one output (None: the call has ended) against the stage's cardinality; return the accepted batches.

        Raises:
            StageContractError: a record was lost, repeated or invented; nothing of this output is booked then.
            InfrastructureError: a record was returned again after it was passed on.
        """
        output = self._collect(batches or ())
        self._check_columns(output)
        if self._is_plain(output):
            self.waiting.clear()
            return output.batches
        parts = self._parts(output)
        leaving = self._check_ids(output, parts)
        missing = [identity for identity in self.waiting if identity not in leaving] if batches is None else []
        self._check_cardinality(output, missing)
        self._book(output, parts, missing)
        for identity in leaving:
            del self.waiting[identity]
        return output.batches

    def _check_columns(self, output: _Output) -> None:
        if self._columns is None:
            return
        there: set[str] = set()
        for batch in output.batches:
            there.update(*batch.data)
        if not self._columns.issuperset(there):
            self._columns.update(*self.before.records())
            for name in there - self._columns:
                if isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] (third-party code)
                    raise undeclared(self._stage, name)

    def _collect(self, batches: Sequence[AudioBatch]) -> _Output:
        sources = [self._batch, *(batch for batch in batches if batch is not self._batch)]
        # a copy of the batch, as `dataclasses.replace` makes one, has the very lists of the batch
        rejected = [note for notes in {id(s.rejected): s.rejected for s in sources}.values() for note in notes]
        failed = [note for notes in {id(s.failed): s.failed for s in sources}.values() for note in notes]
        return _Output(batches, sources, rejected, failed)

    def _is_plain(self, output: _Output) -> bool:
        """Return whether the whole batch came back: every record once, in order, none of them split."""
        if self._stage.cardinality == "splits" or len(output.batches) != 1 or output.rejected or output.failed:
            return False
        if len(self.waiting) < len(self.ids):
            return False
        return self.ids == [record.get(ID) for record in output.batches[0].data]

    def _parts(self, output: _Output) -> dict[str, list[Record]]:
        """Return the records of an output by the ids that they were given under, in order.

        Raises:
            StageContractError: two parts of a record are one and the same dict, so both would look like the last one.
        """
        parts: dict[str, list[Record]] = {}
        seen: set[int] = set()
        for record in (record for batch in output.batches for record in batch.data):
            if self._stage.cardinality == "splits" and id(record) in seen:
                raise StageContractError(
                    "contract_repeated",
                    f"stage {self._stage.name!r} returned the same dict for several parts of {record.get(ID)}; "
                    "return a new one for each, {**record, …}",
                )
            seen.add(id(record))
            parts.setdefault(cast("str", record.get(ID)), []).append(record)
        return parts

    def _check_ids(self, output: _Output, parts: dict[str, list[Record]]) -> dict[str, None]:
        """Check that every record was given, and leaves once; return the ids that leave with this output."""
        leaving: dict[str, None] = {}
        for note in (*output.rejected, *output.failed):
            self._check_id(note.record.get(ID), leaving)
        for identity, records in parts.items():
            for _ in records if self._stage.cardinality != "splits" else records[:1]:
                self._check_id(identity, leaving)
        return leaving

    def _check_id(self, identity: str | None, leaving: dict[str, None]) -> None:
        if identity in self.waiting and identity not in leaving:
            leaving[identity] = None
        elif identity is None:
            self._break("contract_invented", "returned a record without its `_id`")
        elif identity not in self.ids:
            self._break("contract_invented", f"returned {identity}, which it was not given")
        elif identity in leaving:
            self._break("contract_repeated", f"returned {identity} more than once")
        else:  # it was passed on with an earlier part, so it is too late to put it into quarantine
            raise InfrastructureError(
                f"stage {self._stage.name!r} streamed {identity} more than once; "
                + ("yield all parts of a record together" if self._stage.cardinality == "splits" else "yield it once")
            )

    def _check_cardinality(self, output: _Output, missing: Sequence[str]) -> None:
        if output.rejected and self._stage.cardinality == "maps":
            self._break("contract_lost", f"rejected {output.rejected[0].record.get(ID)}")
        if missing and self._stage.cardinality != "filters":
            self._break("contract_lost", f"did not return {missing[0]}")

    def _break(self, code: str, what: str) -> None:
        stage = self._stage
        raise StageContractError(code, f"stage {stage.name!r} {stage.cardinality}, but {what}; {REMEDY[code]}")

    def _book(self, output: _Output, parts: dict[str, list[Record]], missing: Sequence[str]) -> None:
        stage, outcomes = self._stage, self._outcomes
        failed = [(self.before[note.record[ID]], note) for note in output.failed]
        # an error's own methods may raise, so everything is asked for before anything is booked
        verdicts = [(record, classify(note.error, stage, record)) for record, note in failed]
        if stage.cardinality == "splits":
            children: dict[str, Iterator[Record]] = {}
            for identity, records in parts.items():
                children[identity] = iter(number_children(records, self.before[identity], stage, outcomes))
            for batch in output.batches:
                batch.data = [next(children[record[ID]]) for record in batch.data]
        for note in output.rejected:
            outcomes.filter(note.record, stage.name, note.reason)
        for record, verdict in verdicts:
            outcomes.quarantine(record, stage.name, *verdict, 1)
        for identity in missing:
            outcomes.filter(self.before[identity], stage.name, reason_of(None, stage))
        for source in output.sources:
            source.rejected, source.failed = [], []
