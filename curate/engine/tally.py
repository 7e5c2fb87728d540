"""Keeps the books of one batch inside a worker: which roots are finished, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from curate.engine.messages import Filtered, Part, Quarantined, Row, Split
from curate.io.rows import printable
from curate.records import ID, Record, audio_ms, audio_ms_of, path_below


class Tally:
    """Collects outcomes until every descendant of a root is finished, then hands them on together.

    Args:
        number: the batch's number.
        encode: turns a kept record into its row; a `ValueError` of it is the record's.
        blamed: the stage that is named when a record cannot be encoded.
        stages: how many stages are timed.
    """

    def __init__(self, number: int, encode: Callable[[Record], Row] | None, blamed: str, stages: int) -> None:
        self._number = number
        self._encode = encode
        self._blamed = blamed
        self._part = Part(number, [], [], [])
        self._busy_s = [0.0] * stages
        # Only roots that have been split are in these; the common case never touches them.
        self._root_of: dict[str, str] = {}
        self._pending: dict[str, int] = {}
        self._held: dict[str, list[Any]] = {}

    def roots_of(self, records: Sequence[Record]) -> list[str]:
        """Return for every record the id under which it, or its ancestor, has come with the batch."""
        ids: list[str] = [record[ID] for record in records]
        return [self._root_of.get(identity, identity) for identity in ids] if self._root_of else ids

    def busy(self, level: int, seconds: float) -> None:
        """Add to the time that a stage has worked."""
        self._busy_s[level] += seconds

    def keep_all(self, records: Sequence[Record]) -> None:
        """Note records that have left the last stage."""
        encode, part = self._encode, self._part
        if self._pending:
            for record in records:
                self._settle(record[ID], record)
            return
        if encode is None:
            part.kept.extend(records)
            part.kept_roots.extend([record[ID] for record in records])
            part.kept_ms.extend(audio_ms_of(records))
            return
        for record in records:
            self._keep(record[ID], record)

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

    def take(self) -> Part | None:
        """Return what has been finished since the last call, or None."""
        part = self._part
        if not (part.kept_roots or part.filtered or part.quarantined):
            return None
        self._part = Part(self._number, [], [], [])
        part.busy_s = self._busy_s
        self._busy_s = [0.0] * len(self._busy_s)
        return part

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
