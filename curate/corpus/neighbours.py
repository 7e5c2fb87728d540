"""Pairs of rows with the same hash, from sorted rows, in memory that does not depend on their number.

DuckDB sorts out of core, and rows with one hash follow one another in what it returns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from curate.corpus.key_table import KeyTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    RowPairs: TypeAlias = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]

NEIGHBOURS = 32
"""A row is compared with this many rows before it that have the same hash, and with the first one of all. There are
more only where very many records are alike, and then they share other hashes as well."""

_FETCHED = 1 << 16


def pairs_by_hash(keys: KeyTable, query: str) -> Iterator[RowPairs]:
    """Yield pairs of rows with the same hash, as arrays: the earlier positions and their shapes, and the later ones.

    Args:
        keys: the database.
        query: its columns are `hash`, `position` and `shape`, a number that says whether a pair is worth looking at.
    """
    rows: SortedRows | None = None
    for batch in keys.batches(f"SELECT hash, position, shape FROM ({query}) ORDER BY hash, position", _FETCHED):
        hashes, positions, shapes = (np.asarray(column) for column in batch.columns)
        rows = SortedRows(hashes, positions, shapes, rows)
        yield from rows.pairs()


class SortedRows:
    """Rows sorted by hash and position: a batch, and before it the last ones of the batch before.

    A *run* is the rows with one hash. A row is compared with the `NEIGHBOURS` rows before it in its run, and, where the
    run is longer, with the run's first row: the first of many like texts is the one that the others are duplicates of.
    """

    def __init__(
        self, hashes: NDArray[Any], positions: NDArray[Any], shapes: NDArray[Any], before: SortedRows | None
    ) -> None:
        self._old = 0
        if before is not None:
            self._old = min(NEIGHBOURS, len(before.hashes))
            hashes = np.concatenate((before.hashes[-NEIGHBOURS:], hashes))
            positions = np.concatenate((before.positions[-NEIGHBOURS:], positions))
            shapes = np.concatenate((before.shapes[-NEIGHBOURS:], shapes))
        self.hashes: NDArray[Any] = hashes
        self.positions: NDArray[Any] = positions
        self.shapes: NDArray[Any] = shapes
        begins: NDArray[Any] = np.concatenate(([True], hashes[1:] != hashes[:-1]))
        start = np.maximum.accumulate(np.where(begins, np.arange(len(hashes)), 0))
        self._from_start = np.arange(len(hashes)) - start
        self._first_positions, self._first_shapes = positions[start], shapes[start]
        if before is not None and before.hashes[-1] == hashes[0] and self._old == NEIGHBOURS:
            inherited = start == 0  # the first run began further back than the rows that were kept
            self._from_start[inherited] += NEIGHBOURS
            self._first_positions[inherited] = before.last_run[0]
            self._first_shapes[inherited] = before.last_run[1]

    @property
    def last_run(self) -> tuple[int, int]:
        """The position and shape of the first row of the last run."""
        return int(self._first_positions[-1]), int(self._first_shapes[-1])

    def pairs(self) -> Iterator[RowPairs]:
        """Yield the pairs whose second row is in the batch."""
        size, distance = len(self.hashes), 0
        while distance < NEIGHBOURS:
            distance += 1
            begin = max(self._old, distance)
            second = np.flatnonzero(self.hashes[begin:] == self.hashes[begin - distance : size - distance]) + begin
            if not len(second):
                return
            first = second - distance
            yield self.positions[first], self.shapes[first], self.positions[second], self.shapes[second]
        far = np.flatnonzero(self._from_start[self._old :] > NEIGHBOURS) + self._old
        yield self._first_positions[far], self._first_shapes[far], self.positions[far], self.shapes[far]
