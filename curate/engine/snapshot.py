"""Remembers records as they were when they came to a stage; taken cheaply, because it is rarely looked at."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from curate.records import ID, Record


class Snapshot:
    """The records of a batch before a stage has touched them. Every copy that it gives away is a new one."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._frozen = _freeze(records)
        # what cannot be frozen, such as an open file that a stage has put into a record, is shared with the copies
        self._shallow = [dict(record) for record in records] if self._frozen is None else []
        self._by_id: dict[str, Record] | None = None

    def records(self) -> list[Record]:
        """Return copies of all records, in order."""
        return [dict(record) for record in self._shallow] if self._frozen is None else pickle.loads(self._frozen)

    def __getitem__(self, identity: str) -> Record:
        """Return a copy of one record."""
        if self._by_id is None:
            self._by_id = {record[ID]: record for record in self.records()}
        record = self._by_id[identity]
        frozen = _freeze(record)
        return dict(record) if frozen is None else pickle.loads(frozen)


def _freeze(value: Any) -> bytes | None:
    try:
        return pickle.dumps(value, 5)
    except Exception:  # noqa: BLE001 (a value's own __reduce__ may raise anything)
        return None
