"""Remembers records as they were when they came to a stage; taken cheaply, because it is rarely looked at."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from curate.records import ID, Record

_PLAIN = frozenset({str, int, float, bool, type(None)})


class Snapshot:
    """The records of a batch before a stage has touched them. Every copy that it gives away is a new one.

    Args:
        records: the records, to be remembered now.
        again: gives them as they are, new ones at every call, where somebody remembers them already.
    """

    def __init__(self, records: Sequence[Record], again: Callable[[], list[Record]] | None = None) -> None:
        self._by_id: dict[str, Record] | None = None
        if again is not None:
            self._again = again
            return
        frozen = None if _are_flat(records) else _freeze(records)
        if frozen is not None:
            self._again = lambda: pickle.loads(frozen)
            return
        # of flat records a shallow copy is a whole one, and quicker than a pickle; what cannot be pickled, such as an
        # open file that a stage has put into a record, is shared with the copies
        copies = [record.copy() for record in records]
        self._again = lambda: [record.copy() for record in copies]

    def records(self) -> list[Record]:
        """Return copies of all records, in order."""
        return self._again()

    def __getitem__(self, identity: str) -> Record:
        """Return a copy of one record."""
        if self._by_id is None:
            self._by_id = {record[ID]: record for record in self.records()}
        return Snapshot([self._by_id[identity]]).records()[0]


def _are_flat(records: Sequence[Record]) -> bool:
    """Return whether no value can be changed in place."""
    return _PLAIN.issuperset(map(type, chain.from_iterable(record.values() for record in records)))


def _freeze(value: Any) -> bytes | None:
    try:
        return pickle.dumps(value, 5)
    except Exception:  # noqa: BLE001 (a value's own __reduce__ may raise anything)
        return None
