"""Feeds a caller's batches through a pipeline without a run directory."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from curate.engine.accounting.counts import FinishedInputs
from curate.engine.protocol.transport import Executor, HopSpec
from curate.engine.scheduling.scheduler import InputBatch, Scheduler
from curate.errors import RecordError
from curate.plan import Plan
from curate.records import ID, AudioBatch, Failed, Record, Rejected
from curate.stage import WorkerContext


@dataclass(slots=True)
class _OpenBatch:
    """A batch of the caller's, while records of it are in flight."""

    batch: AudioBatch
    left: int
    kept: list[tuple[int, Record]] = field(default_factory=list[tuple[int, Record]])
    rejected: list[tuple[int, Rejected]] = field(default_factory=list[tuple[int, Rejected]])
    failed: list[tuple[int, Failed]] = field(default_factory=list[tuple[int, Failed]])


class _BatchReassembler:
    """Lends every record an id for the time of its journey, and puts finished records back into their batches."""

    def __init__(self) -> None:
        self._next_seq = 0
        self._batch_of: dict[int, _OpenBatch] = {}
        self._own_ids: dict[int, Any] = {}

    def admit(self, batch: AudioBatch) -> InputBatch:
        seqs = range(self._next_seq, self._next_seq + len(batch.data))
        self._next_seq += len(batch.data)
        opened = _OpenBatch(batch, len(batch.data))
        for seq, record in zip(seqs, batch.data, strict=True):
            self._batch_of[seq] = opened
            if ID in record:
                self._own_ids[seq] = record[ID]
        lent = [{**record, ID: _temporary_id(seq)} for seq, record in zip(seqs, batch.data, strict=True)]
        return InputBatch(batch.with_data(lent), seqs)

    def settle(self, settled: FinishedInputs) -> Iterator[AudioBatch]:
        for seq, row in zip(settled.row_seqs, settled.rows, strict=True):
            self._batch_of[seq].kept.append((seq, self._returned(seq, cast("Record", row))))
        for seq, note in settled.filtered:
            self._batch_of[seq].rejected.append((seq, Rejected(self._returned(seq, note.record), note.reason)))
        for seq, note in settled.quarantined:
            error = RecordError(note.code, f"{note.stage}: {note.message}")
            self._batch_of[seq].failed.append((seq, Failed(self._returned(seq, note.record), error)))
        for seq in settled.seqs:
            self._own_ids.pop(seq, None)
            opened = self._batch_of.pop(seq)
            opened.left -= 1
            if opened.left == 0:
                yield _closed(opened)

    def _returned(self, seq: int, record: Record) -> Record:
        """Take back the lent id; a record that came with its own gets that back, and its children ids below it."""
        if seq in self._own_ids:
            return {**record, ID: f"{self._own_ids[seq]}{record[ID].removeprefix(_temporary_id(seq))}"}
        return {name: value for name, value in record.items() if name != ID}


def _temporary_id(seq: int) -> str:
    return f"stream:{seq}"


def _closed(opened: _OpenBatch) -> AudioBatch:
    """Return the finished batch, its records in the order in which they came."""
    done = opened.batch.with_data(record for _, record in sorted(opened.kept, key=lambda pair: pair[0]))
    before = opened.batch
    done.rejected = before.rejected + [note for _, note in sorted(opened.rejected, key=lambda pair: pair[0])]
    done.failed = before.failed + [note for _, note in sorted(opened.failed, key=lambda pair: pair[0])]
    return done


def stream_plan(plan: Plan, executor: Executor, batches: Iterator[AudioBatch]) -> Generator[AudioBatch]:
    """Yield the batches as they are finished."""
    hops = plan.phases[0].hops
    context = WorkerContext(schemes=plan.schemes, audio=plan.audio)
    transport = executor.open([HopSpec(hop, context, False, plan.phases[0].blamed()) for hop in hops])
    desk = _BatchReassembler()
    empty: list[AudioBatch] = []

    def incoming() -> Iterator[InputBatch | FinishedInputs]:
        for batch in batches:
            if batch.data:
                yield desk.admit(batch)
            else:
                empty.append(batch)
                yield FinishedInputs([], [], [], 0, 0)

    try:
        scheduler = Scheduler(transport, hops, reads_ahead=False)  # the batches may wait for what comes out
        for settled in scheduler.run(incoming()):
            yield from desk.settle(settled)
            yield from empty
            empty.clear()
    finally:
        transport.close()
        executor.close()
