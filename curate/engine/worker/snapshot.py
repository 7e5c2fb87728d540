"""Snapshots of records: copies that share no mutable value with the records that a stage receives.

They are cheap: most records are flat, and a shallow copy of a flat record is a complete one.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from curate.records import ID, PLAIN_TYPES, Record


def copies_of(records: Sequence[Record]) -> list[Record]:
    """Return copies that share no mutable value, neither with the records nor with each other.

    A value that cannot be pickled, such as an open file, is shared with the copy.
    """
    if are_flat(records):
        return list(map(Record.copy, records))
    return [_Frozen(record).copy() for record in records]


def are_flat(records: Sequence[Record]) -> bool:
    """Return whether no value can be changed in place."""
    return PLAIN_TYPES.issuperset(map(type, chain.from_iterable(map(Record.values, records))))


class Snapshot:
    """The records of a batch before a stage has changed them. Every access returns a new copy.

    Args:
        records: the records, which are copied now.
        again: returns new copies of the original records, if the caller can already produce them; then they are not
            copied.
    """

    def __init__(self, records: Sequence[Record], again: Callable[[], list[Record]] | None = None) -> None:
        self._by_id: dict[str, Record] | None = None
        if again is not None:
            self._again = again
        elif are_flat(records):
            copies = list(map(Record.copy, records))
            self._again = lambda: list(map(Record.copy, copies))
        else:
            frozen = [_Frozen(record) for record in records]
            self._again = lambda: [each.copy() for each in frozen]

    def records(self) -> list[Record]:
        """Return copies of all records, in order."""
        return self._again()

    def __getitem__(self, identity: str) -> Record:
        """Return a copy of one record."""
        if self._by_id is None:
            self._by_id = {record[ID]: record for record in self.records()}
        (copy,) = copies_of([self._by_id[identity]])
        return copy


class _Frozen:
    """The present state of a record. A value that cannot be pickled is shared with the copies; the others are not."""

    def __init__(self, record: Record) -> None:
        self._shallow = record.copy()
        self._values: dict[str, bytes] = {}
        self._whole = None if are_flat([record]) else _frozen(record)
        if self._whole is None:
            pairs = ((name, _frozen(value)) for name, value in record.items() if type(value) not in PLAIN_TYPES)
            self._values = {name: frozen for name, frozen in pairs if frozen is not None}

    def copy(self) -> Record:
        if self._whole is not None:
            try:
                return pickle.loads(self._whole)
            except Exception:  # noqa: BLE001 (a value of user code may fail to unpickle)
                self._whole = None
        copy = self._shallow.copy()
        for name, frozen in self._values.items():
            try:
                copy[name] = pickle.loads(frozen)
            except Exception:  # noqa: BLE001 (as above)
                continue
        return copy


def _frozen(value: Any) -> bytes | None:
    try:
        return pickle.dumps(value, 5)
    except Exception:  # noqa: BLE001 (a value's own __reduce__ may raise anything)
        return None
