"""Brings a phase's input to the scheduler: numbers the records, skips those that are finished, cuts batches."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

from curate.engine.accounting.counts import FinishedInputs
from curate.engine.durability.commit import id_checksum
from curate.engine.durability.positions import InputPositions, Intervals
from curate.engine.protocol.messages import BatchTask, Filtered, JoinedPart, OutputRow, Quarantined
from curate.engine.protocol.options import StopRequest
from curate.engine.protocol.transport import Blamed
from curate.engine.scheduling.scheduler import InputBatch
from curate.engine.scheduling.tracker import InFlightTracker
from curate.engine.worker.error_classification import driver_errors
from curate.engine.worker.stage_group import StageGroupRunner
from curate.errors import InfrastructureError
from curate.records import ID, AudioBatch, Failed, Record, RecordReader, audio_ms, take
from curate.stage import Gather, Joined, Partitioner, Reject, WorkerContext

DEFAULT_BATCH_RECORDS = 1024
"""How many records travel together where the pipeline has no partitioner."""

SCRATCH_FOLDER = "scratch"
"""The folder of the run directory for a gather's temporary files."""

_SEQ = "_gathered_from"
"""The column that carries a record's position through a gather."""

_Item = TypeVar("_Item")


class InputBatches:
    """The batches of a phase's input that no earlier attempt has finished, in order.

    Args:
        items: the phase's input, in order.
        first_stage: where the input comes from; the stage that is named when an item has failed already.
        partitioner: cuts the batches; None: by count.
        positions: the positions of the items.
        done: the positions in the input that earlier attempts have finished.
        done_checksum: the `id_checksum` of the records at these positions.
        settle: receives inputs that need no work, because they failed in the reader or a gather dropped them. Returns
            whether the run continues; if not, nothing more is read.
        stop: asks to read nothing more.
        again: whether a finished record, by position and id, is processed again; None: none is.
    """

    def __init__(
        self,
        items: Iterator[Record | Failed | Filtered | JoinedPart],
        *,
        first_stage: str,
        partitioner: Partitioner | None,
        positions: InputPositions,
        done: Intervals,
        done_checksum: int,
        settle: Callable[[FinishedInputs], bool],
        stop: StopRequest,
        again: Callable[[int, str], bool] | None = None,
    ) -> None:
        self._items = _skip_finished(items, first_stage, positions, done, done_checksum, again)
        self._first_stage = first_stage
        self._partitioner = partitioner
        self._settle = settle
        self._stop = stop
        self._stopped = False
        self._waiting: dict[str, int] = {}
        """The positions of the records that the partitioner holds, by their ids."""

    def __iter__(self) -> Iterator[InputBatch]:
        """Yield the batches.

        Raises:
            InfrastructureError: the source numbers its records badly or gives others than before, or the partitioner
                lost, repeated or invented one.
        """
        records = self._records()
        partitioner = self._partitioner
        batches = _by_count(records) if partitioner is None else partitioner.partition(records)
        for batch in _from(self._first_stage if partitioner is None else partitioner.name, batches):
            try:
                seqs = [self._waiting.pop(record[ID]) for record in batch.data]
            except KeyError as error:
                raise InfrastructureError(
                    f"{self._cutter} returned {error.args[0]}, which it was not given or has returned already"
                ) from None
            if seqs:
                yield InputBatch(batch, seqs)
        if not self._stopped:
            next(records, None)  # there are none left, unless the partitioner has stopped early
            if self._waiting:
                raise InfrastructureError(
                    f"{self._cutter} did not return {len(self._waiting)} records, "
                    f"{next(iter(self._waiting))} among them"
                )

    @property
    def _cutter(self) -> str:
        return "the input" if self._partitioner is None else f"partitioner {self._partitioner.name!r}"

    def _records(self) -> Iterator[Record]:
        """Yield the records that need work, and settle what does not."""
        waiting, stop = self._waiting, self._stop
        for seq, item in self._items:
            if stop.asked or self._stopped:
                self._stopped = True
                return
            if isinstance(item, dict):
                identity: Any = item.get(ID)
                if type(identity) is not str or identity in waiting:
                    raise InfrastructureError(
                        f"stage {self._first_stage!r} gave record {seq + 1} the `_id` {identity!r}; "
                        "it must give every record a string of its own"
                    )
                waiting[identity] = seq
                yield item
            elif isinstance(item, Failed):
                self._stopped = not self._settle(_settled_failure(seq, item, self._first_stage))
            elif isinstance(item, JoinedPart):
                self._stopped = not self._settle(_settled_part(seq, item))
            else:
                self._stopped = not self._settle(_settled_filtered(seq, item))


def without_stages(
    incoming: Iterator[InputBatch | FinishedInputs], encode: Callable[[Record], OutputRow] | None, blamed: Blamed
) -> Iterator[FinishedInputs]:
    """Yield the records of a phase that has no processing stages, such as one that only merges.

    Args:
        incoming: the phase's batches.
        encode: turns a record into its row.
        blamed: the stages that are named when a record cannot be encoded, as in `HopSpec`.
    """
    runner = StageGroupRunner([], context=WorkerContext(), encode=encode, blamed=blamed)
    tracker = InFlightTracker(last_hop=0)
    for number, item in enumerate(incoming):
        if isinstance(item, FinishedInputs):
            yield item
            continue
        data = item.batch.data
        tracker.add_batch(number, data, item.seqs)
        for result in runner.run(BatchTask(number, data, "", "", ""), lambda data=data: data):
            finished, _ = tracker.settle(0, result, data, onward=0)
            if finished is not None:
                yield finished


def _skip_finished(
    items: Iterator[Record | Failed | Filtered | JoinedPart],
    stage: str,
    positions: InputPositions,
    done: Intervals,
    done_checksum: int,
    again: Callable[[int, str], bool] | None,
) -> Iterator[tuple[int, Record | Failed | Filtered | JoinedPart]]:
    """Return a phase's input with its positions, without what is finished.

    The finished records are read as well, because their ids must be those that the earlier attempts committed.
    """
    numbered = zip(positions, _from(stage, items), strict=False)
    return _left(numbered, stage, done, done_checksum, again) if done.end else numbered


def _left(
    numbered: Iterator[tuple[int, Record | Failed | Filtered | JoinedPart]],
    stage: str,
    done: Intervals,
    done_checksum: int,
    again: Callable[[int, str], bool] | None,
) -> Iterator[tuple[int, Record | Failed | Filtered | JoinedPart]]:
    end, left, found = done.end, len(done), 0
    for seq, item in numbered:
        if seq >= end or seq not in done:
            yield seq, item
            continue
        left -= 1
        record = item.record if isinstance(item, Failed | Filtered | JoinedPart) else item
        identity = str(record.get(ID))
        found += id_checksum((identity,))
        if again is not None and again(seq, identity):
            yield seq, item
        if not left and found % (1 << 64) != done_checksum:
            raise InfrastructureError(
                f"stage {stage!r} gave other records, or another order, than in an earlier attempt of this run; it "
                "must give the same ones in the same order (a shuffle needs a seed); use a new --run-dir"
            )
    if left:
        raise InfrastructureError(
            f"stage {stage!r} gave {left} records in an earlier attempt of this run that it does not give now; "
            "it must give the same ones in the same order"
        )


def _from(stage: str, items: Iterator[_Item]) -> Iterator[_Item]:
    with driver_errors(stage):
        yield from items


def _by_count(records: Iterator[Record]) -> Iterator[AudioBatch]:
    number = 0
    while data := take(records, DEFAULT_BATCH_RECORDS):
        yield AudioBatch(data, task_id=f"batch-{number:06d}")
        number += 1


def run_gather(
    gather: Gather, reader: RecordReader, directory: Path | None = None
) -> Generator[Record | Filtered | JoinedPart]:
    """Yield the records that a gather returns for the phase before, and as filtered those that it leaves out.

    Memory: one bit for each record. The phase before is read again only if something was left out without a reason.

    Args:
        gather: the stage.
        reader: the records of the phase before.
        directory: the run directory, where the gather's temporary files lie; None: the system's folder for them.

    Raises:
        InfrastructureError: the gather repeated or invented a record.
    """
    if directory is not None:
        shutil.rmtree(directory / SCRATCH_FOLDER, ignore_errors=True)  # of an attempt that was killed
        (directory / SCRATCH_FOLDER).mkdir()
    scratch = Path(tempfile.mkdtemp(prefix="curate-")) if directory is None else directory / SCRATCH_FOLDER
    try:
        yield from _gather_once_each(gather, _NumberedRecords(reader), scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _NumberedRecords:
    """The records of the phase before, each with its number under `_SEQ`."""

    def __init__(self, reader: RecordReader) -> None:
        self.reader = reader
        self.total = -1
        """How many records there are; known once they have been read to the end."""
        self.most = 0

    def __iter__(self) -> Iterator[Record]:
        count = 0
        for seq, record in enumerate(self.reader):
            count = seq + 1
            self.most = max(self.most, count)
            record[_SEQ] = seq
            yield record
        self.total = count


def _gather_once_each(
    gather: Gather, records: _NumberedRecords, scratch: Path
) -> Iterator[Record | Filtered | JoinedPart]:
    seen = bytearray()
    left = 0

    def returned(record: Record | None) -> Record:
        """Note that the gather has returned a record, and return it without its number."""
        nonlocal left
        seq = None if record is None else record.get(_SEQ)
        if record is None or not isinstance(seq, int) or seq >= records.most:
            raise InfrastructureError(
                f"gather {gather.name!r} returned {'a record' if record is None else record.get(ID, 'a record')}, "
                "which it was not given; return the records that came, or copies of them ({**record, …})"
            )
        if seq >> 3 >= len(seen):
            seen.extend(bytes((records.most >> 3) + 1 - len(seen)))
        if seen[seq >> 3] >> (seq & 7) & 1:
            raise InfrastructureError(f"gather {gather.name!r} returned {record.get(ID)} more than once")
        seen[seq >> 3] |= 1 << (seq & 7)
        left += 1
        return _without_number(record)  # it may be yielded a second time

    for item in gather.gather_again(records, scratch):
        if isinstance(item, Joined):
            whole = _without_number(item.record)
            parts = [JoinedPart(returned(part), gather.name) for part in item.parts]
            parts[-1].joins, parts[-1].joins_ms = 1, audio_ms(whole)
            yield from parts
            yield whole
        elif isinstance(item, Reject):
            record = returned(item.record)
            yield Filtered(record[ID], record, gather.name, item.reason)
        else:
            yield returned(item)
    if left != records.total:
        yield from _left_out(gather, records, seen)


def _left_out(gather: Gather, records: _NumberedRecords, seen: bytearray) -> Iterator[Filtered]:
    """Yield the records of which a gather has returned nothing."""
    for seq, record in enumerate(records.reader):
        if seq >> 3 >= len(seen) or not seen[seq >> 3] >> (seq & 7) & 1:
            yield Filtered(record[ID], record, gather.name, f"left out by {gather.name}")


def _without_number(record: Record) -> Record:
    return {name: value for name, value in record.items() if name != _SEQ}


def _settled_failure(seq: int, item: Failed, stage: str) -> FinishedInputs:
    record, error = item.record, item.error
    note = Quarantined(record[ID], record, stage, error.code, error.message, "", attempts=1)
    ms = audio_ms(record)
    return FinishedInputs([seq], [], [], ms, 0, quarantined=[(seq, note)], ids=[record[ID]], each_ms=[ms])


def _settled_filtered(seq: int, note: Filtered) -> FinishedInputs:
    ms = audio_ms(note.record)
    return FinishedInputs([seq], [], [], ms, 0, filtered=[(seq, note)], ids=[note.record[ID]], each_ms=[ms])


def _settled_part(seq: int, note: JoinedPart) -> FinishedInputs:
    ms = audio_ms(note.record)
    return FinishedInputs([seq], [], [], ms, 0, joined=[(seq, note)], ids=[note.record[ID]], each_ms=[ms])
