"""Collects the outcomes of one batch inside a worker, until every descendant of a root is finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import is_
from typing import Any

from curate.engine.protocol.messages import BatchTask, Filtered, OutputRow, PartialResult, Quarantined, Split
from curate.engine.protocol.transport import ANY_COLUMN, Blamed, stage_blamed
from curate.io.rows import printable
from curate.records import ID, PLAIN_TYPES, Record, audio_ms, path_below


class OutcomeCollector:
    """Collects the outcomes of a batch's records, and returns each root together with all its descendants.

    Args:
        task: the batch, as the worker received it.
        encode: turns a kept record into its row; a `ValueError` that it raises is the record's.
        blamed: the stages that are named when a record cannot be encoded, as in `HopSpec`.
        stages: how many stages are timed.
    """

    def __init__(
        self, task: BatchTask, encode: Callable[[Record], OutputRow] | None, blamed: Blamed, stages: int
    ) -> None:
        self.ids: list[str] = [record[ID] for record in task.records]
        self._durations = [record.get("duration") for record in task.records]
        self._number = task.number
        self._encode = encode
        self._blamed = blamed
        self._roots: list[str] = []
        self._result = PartialResult(task.number, [], self._roots, [])
        self._busy_s = [0.0] * stages
        self._may_be_whole = True
        # Only roots that have been split are in these; the common case never touches them.
        self._root_of: dict[str, str] = {}
        self._pending: dict[str, int] = {}
        self._held: dict[str, list[Any]] = {}

    def roots_of(self, ids: list[str]) -> list[str]:
        """Return for every record's id the id under which it, or its ancestor, came with the batch."""
        return [self._root_of.get(identity, identity) for identity in ids] if self._root_of else ids

    def track_individually(self) -> None:
        """Let results name every root, even if the whole batch is kept."""
        self._may_be_whole = False

    def add_busy(self, level: int, seconds: float) -> None:
        """Add to the time that a stage has worked."""
        self._busy_s[level] += seconds

    def keep(self, records: list[Record]) -> None:
        """Record that some records have left the last stage."""
        ids: list[str] = [record[ID] for record in records]
        if self._may_be_whole and ids == self.ids and self._keep_whole(records):
            return
        if not self._root_of:
            try:  # all together, which is faster, unless one of them cannot be stored
                rows = records if self._encode is None else list(map(self._encode, records))
            except ValueError:
                pass
            else:
                self._result.kept.extend(rows)
                self._roots.extend(ids)
                self._result.kept_ms.extend(map(audio_ms, records))
                return
        for identity, record in zip(ids, records, strict=True):
            self._settle(identity, record)

    def _keep_whole(self, records: list[Record]) -> bool:
        """Make the result a whole one if every record is as it should be: of a known length, and encodable."""
        before, after = self._durations, [record.get("duration") for record in records]
        unchanged = all(map(is_, before, after))
        if not (PLAIN_TYPES.issuperset(map(type, after)) and (unchanged or PLAIN_TYPES.issuperset(map(type, before)))):
            return False  # a value that can be changed in place may have been
        try:
            rows = list(records if self._encode is None else map(self._encode, records))
        except ValueError:  # one of them cannot be stored
            return False
        kept_ms = list(map(audio_ms, records))
        input_ms = kept_ms if unchanged else [audio_ms({"duration": duration}) for duration in before]
        self._result = PartialResult(self._number, rows, None, kept_ms, input_ms=input_ms)
        return True

    def filter(self, record: Record, stage: str, reason: str) -> None:
        """Record that a stage dropped a record on purpose."""
        identity: str = record[ID]
        self._settle(identity, Filtered(self._root_of.get(identity, identity), record, stage, reason))

    def quarantine(self, record: Record, stage: str, code: str, message: str, trace: str, attempts: int) -> None:
        """Record that a stage failed on a record."""
        identity: str = record[ID]
        self._settle(
            identity, Quarantined(self._root_of.get(identity, identity), record, stage, code, message, trace, attempts)
        )

    def split(self, parent: Record, stage: str, children: Sequence[Record]) -> None:
        """Record that `parent` became `children`; they are acknowledged together."""
        identity: str = parent[ID]
        root = self._root_of.get(identity, identity)
        split = Split(root, stage, len(children), audio_ms(parent), sum(map(audio_ms, children)))
        self._pending[root] = self._pending.get(root, 1) + len(children) - 1
        self._held.setdefault(root, []).append(split)
        for child in children:
            self._root_of[child[ID]] = root

    def take(self) -> PartialResult | None:
        """Return the outcomes finished since the last call; None if there are none."""
        result = self._result
        if not (result.kept_roots is None or self._roots or result.filtered or result.quarantined):
            return None
        result.busy_s, self._busy_s = self._busy_s, [0.0] * len(self._busy_s)
        self._roots = []
        self._result = PartialResult(self._number, [], self._roots, [])
        return result

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
        for held in sorted(self._held.pop(root), key=lambda held: _position(held, root)):
            self._release(root, held)

    def _release(self, root: str, outcome: Record | Filtered | Quarantined | Split) -> None:
        if isinstance(outcome, Filtered):
            self._result.filtered.append(outcome)
        elif isinstance(outcome, Quarantined):
            self._result.quarantined.append(outcome)
        elif isinstance(outcome, Split):
            self._result.splits.append(outcome)
        else:
            self._keep_one(root, outcome)

    def _keep_one(self, root: str, record: Record) -> None:
        row: OutputRow = record
        if self._encode is not None:
            try:
                row = self._encode(record)
            except ValueError as error:
                message = f"the record cannot be stored: {error}"
                stage = stage_blamed(self._blamed, getattr(error, "column", ANY_COLUMN))
                note = Quarantined(root, printable(record), stage, "bad_value", message, "", attempts=1)
                self._result.quarantined.append(note)
                return
        self._result.kept.append(row)
        self._roots.append(root)
        self._result.kept_ms.append(audio_ms(record))


def _position(outcome: Record | Filtered | Quarantined | Split, root: str) -> tuple[int, ...]:
    """Return the place of a descendant among those of its root, whatever the order in which they were finished."""
    record = outcome.record if isinstance(outcome, Filtered | Quarantined) else outcome
    return () if isinstance(record, Split) else path_below(record[ID], root)
