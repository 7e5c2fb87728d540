"""Remembers records as they were when they came to a stage; taken cheaply, because it is rarely looked at."""

from __future__ import annotations

import marshal
import pickle
from collections.abc import Callable, Sequence
from typing import Any

from curate.records import ID, Record

_MARSHALLED = b"M"  # no pickle begins with it


class Snapshot:
    """The records of a batch before a stage has touched them. Every copy that it gives away is a new one.

    Args:
        records: the records, to be remembered now.
        again: gives them as they are, new ones at every call, where somebody remembers them already.
    """

    def __init__(self, records: Sequence[Record], again: Callable[[], list[Record]] | None = None) -> None:
        self._again = again
        self._frozen = _freeze(records) if again is None else None
        # what cannot be frozen, such as an open file that a stage has put into a record, is shared with the copies
        self._shallow = [dict(record) for record in records] if self._frozen is None and again is None else []
        self._by_id: dict[str, Record] | None = None

    def records(self) -> list[Record]:
        """Return copies of all records, in order."""
        if self._again is not None:
            return self._again()
        return [dict(record) for record in self._shallow] if self._frozen is None else _thaw(self._frozen)

    def __getitem__(self, identity: str) -> Record:
        """Return a copy of one record."""
        if self._by_id is None:
            self._by_id = {record[ID]: record for record in self.records()}
        record = self._by_id[identity]
        frozen = _freeze(record)
        return dict(record) if frozen is None else _thaw(frozen)


def _freeze(value: Any) -> bytes | None:
    try:
        # twice as fast as pickle, and knows exactly the types that a manifest holds
        return _MARSHALLED + marshal.dumps(value)
    except ValueError:
        pass  # another type, which is pickle's business
    try:
        return pickle.dumps(value, 5)
    except Exception:  # noqa: BLE001 (a value's own __reduce__ may raise anything)
        return None


def _thaw(frozen: bytes) -> Any:
    return marshal.loads(memoryview(frozen)[1:]) if frozen[:1] == _MARSHALLED else pickle.loads(frozen)
