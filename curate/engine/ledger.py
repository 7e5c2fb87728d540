"""Knows which records are in flight, and which of a phase's roots are finished once their last descendant is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from curate.engine.books import Settled
from curate.engine.messages import Filtered, Part, Quarantined, Row, Split
from curate.errors import AccountingError, InfrastructureError
from curate.records import ID, Record, audio_ms_of, path_below


@dataclass(slots=True)
class _Root:
    """A record of the phase's input, while it or a descendant of it is in flight."""

    identity: str
    seq: int
    ms: int
    pending: int = 1
    rows: list[tuple[tuple[int, ...], Row]] = field(default_factory=list["tuple[tuple[int, ...], Row]"])
    kept_ms: int = 0
    filtered: list[Filtered] = field(default_factory=list[Filtered])
    quarantined: list[Quarantined] = field(default_factory=list[Quarantined])
    splits: list[Split] = field(default_factory=list[Split])


@dataclass(slots=True)
class _Whole:
    """A batch that has just come in: as long as it stays whole, its records need no entries of their own."""

    ids: list[str]
    seqs: Sequence[int]
    ms: list[int]


class Ledger:
    """The records in flight in one phase.

    Args:
        last_hop: the number of the phase's last hop.
    """

    def __init__(self, last_hop: int) -> None:
        self._last_hop = last_hop
        self._whole: dict[int, _Whole] = {}
        self._owner: dict[str, _Root] = {}

    @property
    def empty(self) -> bool:
        """Whether nothing is in flight."""
        return not self._whole and not self._owner

    def described(self) -> str:
        """Return a few of the ids in flight, for an error."""
        ids = [*self._owner, *(identity for whole in self._whole.values() for identity in whole.ids)]
        return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")

    def admit(self, number: int, records: Sequence[Record], seqs: Sequence[int]) -> None:
        """Take in a batch of the phase's input under its number; `seqs` are its records' positions there."""
        ids: list[str] = [record[ID] for record in records]
        self._whole[number] = _Whole(ids, seqs, audio_ms_of(records))

    def settle(self, hop: int, part: Part) -> tuple[Settled | None, list[Record]]:
        """Take in the outcome of some records.

        Returns:
            The phase's roots that are finished by it (or None), and the records that go on to the next hop.
        """
        whole = self._whole.pop(part.number, None)
        if whole is not None:
            eventful = part.filtered or part.quarantined or part.splits
            if hop == self._last_hop and not eventful and part.kept_roots == whole.ids:
                in_ms, kept_ms = sum(whole.ms), sum(part.kept_ms)
                return Settled(whole.seqs, part.kept, whole.seqs, in_ms, kept_ms, ids=whole.ids, each_ms=whole.ms), []
            self._own_each(whole)
        return self._settle_each(hop, part)

    def merge(self, numbers: Sequence[int], number: int) -> None:
        """Note that several batches are sent as one, under a number of its own."""
        wholes = [self._whole.get(each) for each in numbers]
        if None in wholes:
            for each in numbers:
                self.break_up(each)
            return
        merged = _Whole([], [], [])
        seqs: list[int] = []
        for each in numbers:
            whole = self._whole.pop(each)
            merged.ids.extend(whole.ids)
            merged.ms.extend(whole.ms)
            seqs.extend(whole.seqs)
        merged.seqs = seqs
        self._whole[number] = merged

    def break_up(self, number: int) -> None:
        """Note that a batch does not come back whole: its records are sent on under other numbers."""
        whole = self._whole.pop(number, None)
        if whole is not None:
            self._own_each(whole)

    def _own_each(self, whole: _Whole) -> None:
        for identity, seq, ms in zip(whole.ids, whole.seqs, whole.ms, strict=True):
            self._own(identity, _Root(identity, seq, ms))

    def _own(self, identity: str, root: _Root) -> None:
        if identity in self._owner:
            raise InfrastructureError(f"two records have the same id {identity}; a source numbers its records")
        self._owner[identity] = root

    def _settle_each(self, hop: int, part: Part) -> tuple[Settled | None, list[Record]]:
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
        finished: list[_Root] = []
        for root in roots.values():
            root.pending -= 1
            if root.pending == 0:
                finished.append(root)
        return (_together(finished) if finished else None), forward


def _together(roots: list[_Root]) -> Settled:
    rows: list[Row] = []
    row_seqs: list[int] = []
    for root in roots:
        # children that went through several hops come back in any order
        for _, row in sorted(root.rows, key=lambda item: item[0]) if len(root.rows) > 1 else root.rows:
            rows.append(row)
            row_seqs.append(root.seq)
    return Settled(
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
