"""Brings a phase's input to the scheduler: numbers the records, leaves out those that are done, cuts batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeVar

from curate.engine.accounting.counts import FinishedInputs
from curate.engine.durability.commit import id_checksum
from curate.engine.durability.intervals import Intervals
from curate.engine.durability.positions import InputPositions
from curate.engine.protocol.messages import BatchTask, Filtered, OutputRow, Quarantined
from curate.engine.protocol.options import StopRequest
from curate.engine.scheduling.scheduler import InputBatch
from curate.engine.scheduling.tracker import InFlightTracker
from curate.engine.worker.error_classification import driver_errors
from curate.engine.worker.stage_group import StageGroupRunner
from curate.errors import InfrastructureError
from curate.records import ID, AudioBatch, Failed, Record, RecordReader, audio_ms
from curate.stage import Gather, Partitioner, WorkerContext

DEFAULT_BATCH_RECORDS = 1024
"""How many records travel together where the pipeline has no partitioner."""

_SEQ = "_gathered_from"
"""The column that carries a record's position through a gather."""

_Item = TypeVar("_Item")


def feed(
    items: Iterator[Record | Failed | Filtered],
    *,
    first_stage: str,
    partitioner: Partitioner | None,
    places: InputPositions,
    done: Intervals,
    done_sum: int,
    settle: Callable[[FinishedInputs], bool],
    stop: StopRequest,
) -> Iterator[InputBatch]:
    """Yield the batches of a phase.

    Args:
        items: the phase's input, in order.
        first_stage: where it comes from, and who is named when an item has failed already.
        partitioner: cuts the batches; None: by count.
        places: the positions of the items.
        done: the positions in the input that an earlier life of the run has finished.
        done_sum: the `id_checksum` of the records that were there.
        settle: told about roots that need no work: they failed in the reader, or a gather left them out. Returns
            whether the run goes on; if not, nothing more is read.
        stop: asks to read nothing more.

    Raises:
        InfrastructureError: the source numbers its records badly or gives others than before, or the partitioner lost,
            repeated or invented one.
    """
    waiting: dict[str, int] = {}
    stopped = False

    def records() -> Iterator[Record]:
        nonlocal stopped
        for seq, item in _skip_finished(items, first_stage, places, done, done_sum):
            if stop.asked or stopped:
                stopped = True
                return
            if isinstance(item, dict):
                identity: Any = item.get(ID)
                if type(identity) is not str or identity in waiting:
                    raise InfrastructureError(
                        f"stage {first_stage!r} gave record {seq + 1} the `_id` {identity!r}; "
                        "it must give every record a text of its own"
                    )
                waiting[identity] = seq
                yield item
            elif isinstance(item, Failed):
                stopped = not settle(_settled_failure(seq, item, first_stage))
            else:
                stopped = not settle(_settled_filtered(seq, item))

    unfinished = records()
    batches = _by_count(unfinished) if partitioner is None else partitioner.partition(unfinished)
    who = "the feed" if partitioner is None else f"partitioner {partitioner.name!r}"
    for batch in _from(first_stage if partitioner is None else partitioner.name, batches):
        try:
            seqs = [waiting.pop(record[ID]) for record in batch.data]
        except KeyError as error:
            raise InfrastructureError(
                f"{who} returned {error.args[0]}, which it was not given or has returned already"
            ) from None
        if seqs:
            yield InputBatch(batch, seqs)
    if stopped:
        return
    next(unfinished, None)  # there are none left, unless the partitioner has stopped early
    if waiting:
        raise InfrastructureError(f"{who} did not return {len(waiting)} records, {next(iter(waiting))} among them")


def without_stages(
    incoming: Iterator[InputBatch | FinishedInputs], encode: Callable[[Record], OutputRow] | None, blamed: str
) -> Iterator[FinishedInputs]:
    """Yield a phase's records as they come, for one that has no stages of work, such as a mere merge.

    Args:
        incoming: the phase's batches.
        encode: turns a record into its row.
        blamed: the stage that is named when a record cannot be encoded.
    """
    runner, ledger = (
        StageGroupRunner([], context=WorkerContext(), encode=encode, blamed=blamed),
        InFlightTracker(last_hop=0),
    )
    for number, item in enumerate(incoming):
        if isinstance(item, FinishedInputs):
            yield item
            continue
        ledger.add_batch(number, item.batch.data, item.seqs)
        data = item.batch.data
        for part in runner.run(BatchTask(number, data, "", "", ""), lambda data=data: data):
            settled, _ = ledger.settle(0, part, data, onward=0)
            if settled is not None:
                yield settled


def _skip_finished(
    items: Iterator[Record | Failed | Filtered], stage: str, places: InputPositions, done: Intervals, done_sum: int
) -> Iterator[tuple[int, Record | Failed | Filtered]]:
    """Return a phase's input with its positions, without what is done; that must be what was there before."""
    numbered = zip(places, _from(stage, items), strict=False)
    return _left(numbered, stage, done, done_sum) if done.end else numbered


def _left(
    numbered: Iterator[tuple[int, Record | Failed | Filtered]], stage: str, done: Intervals, done_sum: int
) -> Iterator[tuple[int, Record | Failed | Filtered]]:
    end, left, found = done.end, len(done), 0
    for seq, item in numbered:
        if seq >= end or seq not in done:
            yield seq, item
            continue
        left -= 1
        record = item.record if isinstance(item, Failed | Filtered) else item
        found += id_checksum((str(record.get(ID)),))
        if not left and found % (1 << 64) != done_sum:
            raise InfrastructureError(
                f"stage {stage!r} gave other records, or another order, than in an earlier life of this run; it must "
                "give the same ones in the same order (a shuffle needs a seed, a set has no order); use a new --run-dir"
            )
    if left:
        raise InfrastructureError(
            f"stage {stage!r} gave {left} records in an earlier life of this run that it does not give now; "
            "it must give the same ones in the same order"
        )


def _from(stage: str, items: Iterator[_Item]) -> Iterator[_Item]:
    with driver_errors(stage):
        yield from items


def _by_count(records: Iterator[Record]) -> Iterator[AudioBatch]:
    number = 0
    while data := list(islice(records, DEFAULT_BATCH_RECORDS)):
        yield AudioBatch(data, task_id=f"batch-{number:06d}")
        number += 1


def run_gather(gather: Gather, reader: RecordReader) -> Iterator[Record | Filtered]:
    """Yield what a gather makes of the phase before, then what it has left out, as filtered.

    Memory: one bit for each record. The phase before is read again only if something was left out.

    Raises:
        InfrastructureError: the gather repeated or invented a record.
    """
    seen = bytearray()
    total = -1  # how many records there are; known once the gather has read them all

    def numbered() -> Iterator[Record]:
        nonlocal total
        count = 0
        for seq, record in enumerate(reader):
            count += 1
            if seq >> 3 >= len(seen):
                seen.append(0)
            record[_SEQ] = seq
            yield record
        total = count

    kept = 0
    for record in gather.gather(numbered()):
        seq = record.get(_SEQ)
        if not isinstance(seq, int) or seq >> 3 >= len(seen):
            raise InfrastructureError(
                f"gather {gather.name!r} returned {record.get(ID, 'a record')}, which it was not given; "
                "return the records that came, or copies of them ({**record, …})"
            )
        if seen[seq >> 3] >> (seq & 7) & 1:
            raise InfrastructureError(f"gather {gather.name!r} returned {record.get(ID)} more than once")
        seen[seq >> 3] |= 1 << (seq & 7)
        kept += 1
        yield {name: value for name, value in record.items() if name != _SEQ}  # it may come a second time
    if kept == total:
        return
    for seq, record in enumerate(reader):
        if seq >> 3 >= len(seen) or not seen[seq >> 3] >> (seq & 7) & 1:
            yield Filtered(record[ID], record, gather.name, f"left out by {gather.name}")


def _settled_failure(seq: int, item: Failed, stage: str) -> FinishedInputs:
    record, error = item.record, item.error
    note = Quarantined(record[ID], record, stage, error.code, error.message, "", attempts=1)
    ms = audio_ms(record)
    return FinishedInputs([seq], [], [], ms, 0, quarantined=[(seq, note)], ids=[record[ID]], each_ms=[ms])


def _settled_filtered(seq: int, note: Filtered) -> FinishedInputs:
    ms = audio_ms(note.record)
    return FinishedInputs([seq], [], [], ms, 0, filtered=[(seq, note)], ids=[note.record[ID]], each_ms=[ms])
