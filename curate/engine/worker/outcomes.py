"""Keeps the books of one batch inside a worker: which roots are finished, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import is_
from typing import Any

from curate.engine.protocol.messages import (
    BatchTask,
    Filtered,
    Outcome,
    OutputRow,
    PartialResult,
    Quarantined,
    Split,
    Whole,
)
from curate.io.rows import printable
from curate.records import ID, PLAIN_TYPES, Record, audio_ms, audio_ms_of, durations_of, path_below


class OutcomeCollector:
    """Collects outcomes until every descendant of a root is finished, then hands them on together.

    Args:
        work: the batch, as it has come.
        encode: turns a kept record into its row; a `ValueError` of it is the record's.
        blamed: the stage that is named when a record cannot be encoded.
        stages: how many stages are timed.
    """

    def __init__(self, work: BatchTask, encode: Callable[[Record], OutputRow] | None, blamed: str, stages: int) -> None:
        self.ids: list[str] = [record[ID] for record in work.records]
        self._durations = durations_of(work.records)
        self._number = work.number
        self._encode = encode
        self._blamed = blamed
        self._part = PartialResult(work.number, [], [], [])
        self._whole: Whole | None = None
        self._busy_s = [0.0] * stages
        # Only roots that have been split are in these; the common case never touches them.
        self._root_of: dict[str, str] = {}
        self._pending: dict[str, int] = {}
        self._held: dict[str, list[Any]] = {}

    def roots_of(self, ids: list[str]) -> list[str]:
        """Return for every record's id the one under which it, or its ancestor, has come with the batch."""
        return [self._root_of.get(identity, identity) for identity in ids] if self._root_of else ids

    def busy(self, level: int, seconds: float) -> None:
        """Add to the time that a stage has worked."""
        self._busy_s[level] += seconds

    def keep_all(self, records: list[Record]) -> None:
        """Note records that have left the last stage."""
        ids: list[str] = [record[ID] for record in records]
        if ids == self.ids and (whole := self._as_whole(records)) is not None:
            self._whole = whole
            return
        if self._pending:
            for identity, record in zip(ids, records, strict=True):
                self._settle(identity, record)
        elif self._encode is None:
            self._part.kept.extend(records)
            self._part.kept_roots.extend(ids)
            self._part.kept_ms.extend(audio_ms_of(durations_of(records)))
        else:
            for identity, record in zip(ids, records, strict=True):
                self._keep(identity, record)

    def _as_whole(self, records: list[Record]) -> Whole | None:
        """Return the outcome of the batch if every record is as it should be: kept, of a known length, encodable."""
        came, durations = self._durations, durations_of(records)
        if not (PLAIN_TYPES.issuperset(map(type, came)) and PLAIN_TYPES.issuperset(map(type, durations))):
            return None  # what can be changed in place may have been
        try:
            rows = list(records if self._encode is None else map(self._encode, records))
        except ValueError:  # one of them cannot be stored
            return None
        came_ms = audio_ms_of(came)
        unchanged = all(map(is_, durations, came))
        return Whole(self._number, rows, came_ms, came_ms if unchanged else audio_ms_of(durations))

    def filtered(self, record: Record, stage: str, reason: str) -> None:
        """Note a record that a stage left out."""
        identity: str = record[ID]
        self._settle(identity, Filtered(self._root_of.get(identity, identity), record, stage, reason))

    def quarantined(self, record: Record, stage: str, code: str, message: str, trace: str, attempts: int) -> None:
        """Note a record that a stage could not work on."""
        identity: str = record[ID]
        self._settle(
            identity, Quarantined(self._root_of.get(identity, identity), record, stage, code, message, trace, attempts)
        )

    def split(self, parent: Record, stage: str, children: Sequence[Record]) -> None:
        """Note that `parent` became `children`; they are acknowledged together."""
        identity: str = parent[ID]
        root = self._root_of.get(identity, identity)
        split = Split(root, stage, len(children), audio_ms(parent), sum(map(audio_ms, children)))
        self._pending[root] = self._pending.get(root, 1) + len(children) - 1
        self._held.setdefault(root, []).append(split)
        for child in children:
            self._root_of[child[ID]] = root

    def take(self) -> Outcome | None:
        """Return what has been finished since the last call, or None."""
        outcome = self._whole or self._part
        if isinstance(outcome, PartialResult):
            if not (outcome.kept_roots or outcome.filtered or outcome.quarantined):
                return None
            self._part = PartialResult(self._number, [], [], [])
        self._whole = None
        outcome.busy_s = self._busy_s
        self._busy_s = [0.0] * len(self._busy_s)
        return outcome

    def _settle(self, identity: str, outcome: Record | Filtered | Quarantined) -> None:
        root = self._root_of.get(identity, identity)
        waiting = self._pending.get(root)
        if waiting is None:
            self._release(root, outcome)
            return
        self._held[root].append(outcome)
        if waiting > 1:
            self._pending[root] = waiting - 1
            return
        del self._pending[root]
        for held in sorted(self._held.pop(root), key=lambda held: _place(held, root)):
            self._release(root, held)

    def _release(self, root: str, outcome: Record | Filtered | Quarantined | Split) -> None:
        part = self._part
        if isinstance(outcome, Filtered):
            part.filtered.append(outcome)
        elif isinstance(outcome, Quarantined):
            part.quarantined.append(outcome)
        elif isinstance(outcome, Split):
            part.splits.append(outcome)
        else:
            self._keep(root, outcome)

    def _keep(self, root: str, record: Record) -> None:
        part = self._part
        if self._encode is not None:
            try:
                row = self._encode(record)
            except ValueError as error:
                message = f"the record cannot be stored: {error}"
                part.quarantined.append(
                    Quarantined(root, printable(record), self._blamed, "bad_value", message, "", attempts=1)
                )
                return
        else:
            row = record
        part.kept.append(row)
        part.kept_roots.append(root)
        part.kept_ms.append(audio_ms(record))


def _place(outcome: Record | Filtered | Quarantined | Split, root: str) -> tuple[int, ...]:
    """Return the place of a descendant among those of its root, whatever the order in which they were finished."""
    record = outcome.record if isinstance(outcome, Filtered | Quarantined) else outcome
    return () if isinstance(record, Split) else path_below(record[ID], root)
