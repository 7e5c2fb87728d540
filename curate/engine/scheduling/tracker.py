"""Knows which records are in flight, and which inputs of a phase are finished once their last descendant is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from curate.engine.accounting.counts import FinishedInputs
from curate.engine.protocol.messages import Filtered, NewFile, OutputRow, PartialResult, Quarantined, Split
from curate.errors import AccountingError, InfrastructureError
from curate.records import ID, Record, audio_ms, path_below


@dataclass(slots=True)
class _PendingInput:
    """A record of the phase's input, while it or a descendant of it is in flight."""

    identity: str
    seq: int
    ms: int
    pending: int = 1
    rows: list[tuple[tuple[int, ...], OutputRow]] = field(default_factory=list["tuple[tuple[int, ...], OutputRow]"])
    kept_ms: int = 0
    filtered: list[Filtered] = field(default_factory=list[Filtered])
    quarantined: list[Quarantined] = field(default_factory=list[Quarantined])
    splits: list[Split] = field(default_factory=list[Split])
    files: list[NewFile] = field(default_factory=list[NewFile])


@dataclass(slots=True)
class _PendingBatch:
    """A batch of the phase's input that has stayed whole; `ms` is None until a worker has reported the lengths."""

    ids: list[str]
    seqs: Sequence[int]
    records: Sequence[Record]
    ms: list[int] | None = None

    def input_ms(self) -> list[int]:
        return list(map(audio_ms, self.records)) if self.ms is None else self.ms


class InFlightTracker:
    """The records in flight in one phase.

    Nearly every batch is kept whole from its first hop to its last, so it has one entry here, and its records have
    none. The moment something happens to one of its records (it is filtered, fails, is split, or is sent on apart from
    the others), `track_individually` replaces the batch's entry by one for each record, keyed by the id that the
    record has in its hop. From then on an input counts its descendants: `pending` goes up with every child that is
    handed on, down with every one that is finished, and the input is finished at zero.

    Args:
        last_hop: the number of the phase's last hop.
    """

    def __init__(self, last_hop: int) -> None:
        self._last_hop = last_hop
        self._batches: dict[int, _PendingBatch] = {}
        self._input_of: dict[str, _PendingInput] = {}

    @property
    def empty(self) -> bool:
        """Whether nothing is in flight."""
        return not self._batches and not self._input_of

    def described(self) -> str:
        """Return a few of the ids in flight, for an error."""
        ids = [*self._input_of, *(identity for batch in self._batches.values() for identity in batch.ids)]
        return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")

    def add_batch(self, number: int, records: Sequence[Record], seqs: Sequence[int]) -> None:
        """Add a batch of the phase's input under its number; `seqs` are its records' positions there."""
        self._batches[number] = _PendingBatch([record[ID] for record in records], seqs, records)

    def merge(self, numbers: Sequence[int], number: int, records: Sequence[Record]) -> None:
        """Record that several batches are sent as one, with all their records, under a number of its own."""
        if not all(each in self._batches for each in numbers):
            for each in numbers:
                self.track_individually(each)
            return
        merged = [self._batches.pop(each) for each in numbers]
        self._batches[number] = _PendingBatch(
            ids=[identity for batch in merged for identity in batch.ids],
            seqs=[seq for batch in merged for seq in batch.seqs],
            records=records,
            ms=None if merged[0].ms is None else [ms for batch in merged for ms in batch.input_ms()],
        )

    def track_individually(self, number: int) -> None:
        """Record that a batch does not stay whole."""
        batch = self._batches.pop(number, None)
        if batch is not None:
            for identity, seq, ms in zip(batch.ids, batch.seqs, batch.input_ms(), strict=True):
                self._own(identity, _PendingInput(identity, seq, ms))

    def settle(
        self, hop: int, result: PartialResult, records: Sequence[Record], onward: int
    ) -> tuple[FinishedInputs | None, list[Record]]:
        """Record the outcome of some records of a batch, or of all of them.

        Args:
            hop: the number of the hop that they went through.
            records: what the worker was given.
            onward: the number under which the kept records continue in the next hop, if there is one.

        Returns:
            The phase's inputs that are finished by it (or None), and the records for the next hop.

        Raises:
            AccountingError: the worker names records that it was not given, or not as many as it was.
        """
        kept_roots = result.kept_roots
        if kept_roots is None:
            if len(result.kept) != len(records):
                raise AccountingError(f"a worker reports {len(result.kept)} records as the whole of {len(records)}")
            batch = self._batches.pop(result.number, None)
            if batch is not None:
                return self._settle_batch(batch, hop, result, onward)
            kept_roots = [record[ID] for record in records]
        else:
            batch = self._batches.get(result.number)
            if batch is not None and hop == self._last_hop and not result.splits:
                finished = _finished_batch(batch, result, kept_roots)
                if finished is not None:
                    del self._batches[result.number]
                    return finished, []
            self.track_individually(result.number)
        return self._settle_each(hop, result, kept_roots)

    def _settle_batch(
        self, batch: _PendingBatch, hop: int, result: PartialResult, onward: int
    ) -> tuple[FinishedInputs | None, list[Record]]:
        if batch.ms is None:
            batch.ms = batch.input_ms() if result.input_ms is None else result.input_ms
        if hop < self._last_hop:
            batch.records = ()
            self._batches[onward] = batch
            return None, cast("list[Record]", result.kept)
        in_ms = sum(batch.ms)
        kept_ms = in_ms if result.kept_ms is batch.ms else sum(result.kept_ms)
        return FinishedInputs(batch.seqs, result.kept, batch.seqs, in_ms, kept_ms, ids=batch.ids, each_ms=batch.ms), []

    def _settle_each(
        self, hop: int, result: PartialResult, kept_roots: Sequence[str]
    ) -> tuple[FinishedInputs | None, list[Record]]:
        names = dict.fromkeys(kept_roots)
        names.update(dict.fromkeys(note.root for note in (*result.filtered, *result.quarantined)))
        try:
            inputs = {name: self._input_of.pop(name) for name in names}
        except KeyError as error:
            raise AccountingError(f"a worker has finished {error.args[0]}, which it was not given") from None
        _attach(result, inputs)
        forward: list[Record] = []
        if hop == self._last_hop:
            for name, row, ms in zip(kept_roots, result.kept, result.kept_ms, strict=True):
                pending = inputs[name]
                pending.kept_ms += ms
                pending.rows.append((path_below(name, pending.identity) if name != pending.identity else (), row))
        else:
            forward = cast("list[Record]", result.kept)
            for name, record in zip(kept_roots, forward, strict=True):
                pending = inputs[name]
                pending.pending += 1
                self._own(record[ID], pending)
        finished: list[_PendingInput] = []
        for pending in inputs.values():
            pending.pending -= 1
            if pending.pending == 0:
                finished.append(pending)
        return (_finished_inputs(finished) if finished else None), forward

    def _own(self, identity: str, pending: _PendingInput) -> None:
        if identity in self._input_of:
            raise InfrastructureError(f"two records have the same id {identity}; a source numbers its records")
        self._input_of[identity] = pending


def _finished_batch(batch: _PendingBatch, result: PartialResult, kept_roots: Sequence[str]) -> FinishedInputs | None:
    """Return the inputs of a batch that one result finishes, each with one outcome; None: it is another result.

    As after a filter: an entry for each record would take longer than the filter.
    """
    seq_of = dict(zip(batch.ids, batch.seqs, strict=True))
    roots = [*kept_roots, *(note.root for note in result.filtered), *(note.root for note in result.quarantined)]
    if len(roots) != len(seq_of) or seq_of.keys() != set(roots):
        return None
    each_ms = batch.input_ms()
    return FinishedInputs(
        seqs=batch.seqs,
        rows=result.kept,
        row_seqs=[seq_of[root] for root in kept_roots],
        in_ms=sum(each_ms),
        kept_ms=sum(result.kept_ms),
        filtered=[(seq_of[note.root], note) for note in result.filtered],
        quarantined=[(seq_of[note.root], note) for note in result.quarantined],
        files=[(seq_of[file.root], file) for file in result.files],
        ids=batch.ids,
        each_ms=each_ms,
    )


def _attach(result: PartialResult, inputs: Mapping[str, _PendingInput]) -> None:
    """Add the notes, splits and files of a result to the inputs that they belong to."""
    for split in result.splits:
        inputs[split.root].splits.append(split)
    for filtered in result.filtered:
        inputs[filtered.root].filtered.append(filtered)
    for quarantined in result.quarantined:
        inputs[quarantined.root].quarantined.append(quarantined)
    for file in result.files:
        inputs[file.root].files.append(file)


def _finished_inputs(inputs: list[_PendingInput]) -> FinishedInputs:
    rows: list[OutputRow] = []
    row_seqs: list[int] = []
    for each in inputs:
        # children that went through several hops come back in any order
        for _, row in sorted(each.rows, key=lambda item: item[0]) if len(each.rows) > 1 else each.rows:
            rows.append(row)
            row_seqs.append(each.seq)
    return FinishedInputs(
        seqs=[each.seq for each in inputs],
        rows=rows,
        row_seqs=row_seqs,
        in_ms=sum(each.ms for each in inputs),
        kept_ms=sum(each.kept_ms for each in inputs),
        filtered=[(each.seq, note) for each in inputs for note in each.filtered],
        quarantined=[(each.seq, note) for each in inputs for note in each.quarantined],
        splits=[split for each in inputs for split in each.splits],
        files=[(each.seq, file) for each in inputs for file in each.files],
        ids=[each.identity for each in inputs],
        each_ms=[each.ms for each in inputs],
    )
