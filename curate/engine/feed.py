"""Brings a phase's input to the scheduler: numbers the records, leaves out those that are done, cuts batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from curate.engine.books import Settled
from curate.engine.intervals import Intervals
from curate.engine.messages import Filtered, Quarantined
from curate.engine.scheduler import Incoming
from curate.errors import InfrastructureError
from curate.records import ID, AudioBatch, Failed, Record, RecordReader, audio_ms
from curate.stage import Gather, Partitioner

DEFAULT_BATCH_RECORDS = 1024
"""How many records travel together where the pipeline has no partitioner."""

_SEQ = "_seq"


def feed(
    items: Iterable[Record | Failed | Filtered],
    *,
    first_stage: str,
    partitioner: Partitioner | None,
    done: Intervals,
    settle: Callable[[Settled], None],
) -> Iterator[Incoming]:
    """Yield the batches of a phase.

    Args:
        items: the phase's input, in order.
        first_stage: who is named when an item has failed already.
        partitioner: cuts the batches; None: by count.
        done: the positions in the input that an earlier life of the run has finished.
        settle: told about roots that need no work: they failed in the reader, or a gather left them out.

    Raises:
        InfrastructureError: the partitioner lost, repeated or invented a record.
    """
    waiting: dict[str, int] = {}

    def records() -> Iterator[Record]:
        for seq, item in enumerate(items):
            if seq in done:
                continue
            if isinstance(item, Failed):
                settle(_settled_failure(seq, item, first_stage))
            elif isinstance(item, Filtered):
                settle(_settled_filtered(seq, item))
            else:
                waiting[item[ID]] = seq
                yield item

    batches = _by_count(records()) if partitioner is None else partitioner.partition(records())
    who = "the feed" if partitioner is None else f"partitioner {partitioner.name!r}"
    for batch in batches:
        try:
            seqs = [waiting.pop(record[ID]) for record in batch.data]
        except KeyError as error:
            raise InfrastructureError(
                f"{who} returned {error.args[0]}, which it was not given or has returned already"
            ) from None
        if seqs:
            yield Incoming(batch, seqs)
    if waiting:
        raise InfrastructureError(f"{who} did not return {len(waiting)} records, {next(iter(waiting))} among them")


def _by_count(records: Iterator[Record]) -> Iterator[AudioBatch]:
    number = 0
    while data := list(islice(records, DEFAULT_BATCH_RECORDS)):
        yield AudioBatch(data, task_id=f"batch-{number:06d}")
        number += 1


def gathered(gather: Gather, reader: RecordReader) -> Iterator[Record | Filtered]:
    """Yield what a gather makes of the phase before, then what it has left out, as filtered.

    Memory: one bit for each record.

    Raises:
        InfrastructureError: the gather repeated or invented a record.
    """
    seen = bytearray()

    def numbered() -> Iterator[Record]:
        for seq, record in enumerate(reader):
            if seq >> 3 >= len(seen):
                seen.append(0)
            record[_SEQ] = seq
            yield record

    for record in gather.gather(numbered()):
        seq = record.pop(_SEQ, None)
        if not isinstance(seq, int) or seq >> 3 >= len(seen):
            raise InfrastructureError(
                f"gather {gather.name!r} returned {record.get(ID, 'a record')}, which it was not given; "
                "return the records that came, or copies of them ({**record, …})"
            )
        if seen[seq >> 3] >> (seq & 7) & 1:
            raise InfrastructureError(f"gather {gather.name!r} returned {record.get(ID)} more than once")
        seen[seq >> 3] |= 1 << (seq & 7)
        yield record
    for seq, record in enumerate(reader):
        if seq >> 3 >= len(seen) or not seen[seq >> 3] >> (seq & 7) & 1:
            yield Filtered(record[ID], record, gather.name, f"left out by {gather.name}")


def _settled_failure(seq: int, item: Failed, stage: str) -> Settled:
    record, error = item.record, item.error
    note = Quarantined(record[ID], record, stage, error.code, error.message, "", attempts=1)
    return Settled([seq], [], [], audio_ms(record), 0, quarantined=[(seq, note)])


def _settled_filtered(seq: int, note: Filtered) -> Settled:
    return Settled([seq], [], [], audio_ms(note.record), 0, filtered=[(seq, note)])
