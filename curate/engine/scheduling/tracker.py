"""Knows which records are in flight, and which of a phase's roots are finished once their last descendant is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from curate.engine.accounting.counts import FinishedInputs
from curate.engine.protocol.messages import Filtered, Outcome, OutputRow, PartialResult, Quarantined, Split, Whole
from curate.errors import AccountingError, InfrastructureError
from curate.records import ID, Record, audio_ms_of, durations_of, path_below


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


@dataclass(slots=True)
class _Batch:
    """A batch of the phase's input. As long as it stays whole, from hop to hop, its records need no entries.

    `records` are as they came in; their audio is only asked for if no worker tells of it.
    """

    ids: list[str]
    seqs: Sequence[int]
    records: Sequence[Record]
    ms: list[int] | None = None

    def each_ms(self) -> list[int]:
        return audio_ms_of(durations_of(self.records)) if self.ms is None else self.ms


class InFlightTracker:
    """The records in flight in one phase.

    Args:
        last_hop: the number of the phase's last hop.
    """

    def __init__(self, last_hop: int) -> None:
        self._last_hop = last_hop
        self._batches: dict[int, _Batch] = {}
        self._owner: dict[str, _PendingInput] = {}

    @property
    def empty(self) -> bool:
        """Whether nothing is in flight."""
        return not self._batches and not self._owner

    def described(self) -> str:
        """Return a few of the ids in flight, for an error."""
        ids = [*self._owner, *(identity for batch in self._batches.values() for identity in batch.ids)]
        return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")

    def add_batch(self, number: int, records: Sequence[Record], seqs: Sequence[int]) -> None:
        """Take in a batch of the phase's input under its number; `seqs` are its records' positions there."""
        ids: list[str] = [record[ID] for record in records]
        self._batches[number] = _Batch(ids, seqs, records)

    def settle(
        self, hop: int, outcome: Outcome, records: Sequence[Record], onward: int
    ) -> tuple[FinishedInputs | None, list[Record]]:
        """Take in the outcome of some records of a batch, or of all of them.

        Args:
            records: what the worker was given.
            onward: the number under which a whole batch goes on to the next hop, if there is one.

        Returns:
            The phase's roots that are finished by it (or None), and the records that go on to the next hop.

        Raises:
            AccountingError: the worker names records that it was not given, or not as many as it was.
        """
        if isinstance(outcome, Whole):
            return self._settle_whole(hop, outcome, records, onward)
        self.track_individually(outcome.number)
        return self._settle_each(hop, outcome)

    def _settle_whole(
        self, hop: int, whole: Whole, records: Sequence[Record], onward: int
    ) -> tuple[FinishedInputs | None, list[Record]]:
        if len(whole.kept) != len(records):
            raise AccountingError(f"a worker says that it has kept all of {len(records)} records as {len(whole.kept)}")
        batch = self._batches.pop(whole.number, None)
        if batch is None:
            return self._settle_each(hop, whole.as_part([record[ID] for record in records]))
        if batch.ms is None:
            batch.ms = whole.came_ms
        if hop < self._last_hop:
            batch.records = ()
            self._batches[onward] = batch
            return None, cast("list[Record]", whole.kept)
        in_ms = sum(batch.ms)
        kept_ms = in_ms if whole.kept_ms is batch.ms else sum(whole.kept_ms)
        return FinishedInputs(batch.seqs, whole.kept, batch.seqs, in_ms, kept_ms, ids=batch.ids, each_ms=batch.ms), []

    def merge(self, numbers: Sequence[int], number: int, records: Sequence[Record]) -> None:
        """Note that several batches are sent as one, with all their records, under a number of its own."""
        if not all(each in self._batches for each in numbers):
            for each in numbers:
                self.track_individually(each)
            return
        together = [self._batches.pop(each) for each in numbers]
        self._batches[number] = _Batch(
            ids=[identity for batch in together for identity in batch.ids],
            seqs=[seq for batch in together for seq in batch.seqs],
            records=records,
            ms=None if together[0].ms is None else [ms for batch in together for ms in batch.each_ms()],
        )

    def track_individually(self, number: int) -> None:
        """Note that a batch does not stay whole: some of its records are finished, or sent on under other numbers."""
        batch = self._batches.pop(number, None)
        if batch is not None:
            for identity, seq, ms in zip(batch.ids, batch.seqs, batch.each_ms(), strict=True):
                self._own(identity, _PendingInput(identity, seq, ms))

    def _own(self, identity: str, root: _PendingInput) -> None:
        if identity in self._owner:
            raise InfrastructureError(f"two records have the same id {identity}; a source numbers its records")
        self._owner[identity] = root

    def _settle_each(self, hop: int, part: PartialResult) -> tuple[FinishedInputs | None, list[Record]]:
        names = dict.fromkeys(part.kept_roots)
        names.update(dict.fromkeys(note.root for note in part.filtered))
        names.update(dict.fromkeys(note.root for note in part.quarantined))
        try:
            roots = {name: self._owner.pop(name) for name in names}
        except KeyError as error:
            raise AccountingError(f"a worker has finished {error.args[0]}, which it was not given") from None
        for split in part.splits:
            roots[split.root].splits.append(split)
        for note in part.filtered:
            roots[note.root].filtered.append(note)
        for note in part.quarantined:
            roots[note.root].quarantined.append(note)
        forward: list[Record] = []
        if hop == self._last_hop:
            for name, row, ms in zip(part.kept_roots, part.kept, part.kept_ms, strict=True):
                root = roots[name]
                root.kept_ms += ms
                root.rows.append((path_below(name, root.identity) if name != root.identity else (), row))
        else:
            forward = cast("list[Record]", part.kept)
            for name, record in zip(part.kept_roots, forward, strict=True):
                root = roots[name]
                root.pending += 1
                self._own(record[ID], root)
        finished: list[_PendingInput] = []
        for root in roots.values():
            root.pending -= 1
            if root.pending == 0:
                finished.append(root)
        return (_together(finished) if finished else None), forward


def _together(roots: list[_PendingInput]) -> FinishedInputs:
    rows: list[OutputRow] = []
    row_seqs: list[int] = []
    for root in roots:
        # children that went through several hops come back in any order
        for _, row in sorted(root.rows, key=lambda item: item[0]) if len(root.rows) > 1 else root.rows:
            rows.append(row)
            row_seqs.append(root.seq)
    return FinishedInputs(
        seqs=[root.seq for root in roots],
        rows=rows,
        row_seqs=row_seqs,
        in_ms=sum(root.ms for root in roots),
        kept_ms=sum(root.kept_ms for root in roots),
        filtered=[(root.seq, note) for root in roots for note in root.filtered],
        quarantined=[(root.seq, note) for root in roots for note in root.quarantined],
        splits=[split for root in roots for split in root.splits],
        ids=[root.identity for root in roots],
        each_ms=[root.ms for root in roots],
    )
