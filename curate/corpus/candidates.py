"""Pairs of texts that may be near duplicates: those that share bands, found by sorting one band after the other.

Nothing here grows with the number of texts but files: DuckDB sorts each band out of core, and the texts with an equal
band follow one another in what it returns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.corpus.key_table import KeyTable, quoted
from curate.corpus.minhash import BANDS
from curate.corpus.similarity import SHORT_LETTERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEIGHBOURS = 32
"""A text is compared with this many texts before it that have the same band, and with the first text of all. More of
them share a band only where very many texts are alike, and then they share other bands as well."""

MIN_LONG_BANDS = 3
"""Texts of 40 letters and more are candidates from this number of equal bands on: at a Jaccard similarity of 0.8 they
have 13 of 32, and fewer than 3 with a probability of 0.00001; at 0.3 they have 3 with one of 0.003."""

_FETCHED = 1 << 16
_SHAPE_BITS = 20


def pack_shape(letters: int, characters: int, grams: int) -> int:
    """Return the lengths of a text in one number: what tells whether two texts can be near duplicates at all."""
    most = (1 << _SHAPE_BITS) - 1
    return min(letters, most) << (2 * _SHAPE_BITS) | min(characters, most) << _SHAPE_BITS | min(grams, most)


def find_candidates(keys: KeyTable) -> str:
    """Write the pairs of candidates to a table, and return its name. Its columns: `a` < `b`, as positions.

    Args:
        keys: a database with the table `texts`: `position`, `shape`, and `band_0` … `band_31`.
    """
    import pyarrow as pa
    from pyarrow import parquet

    arrow: Any = pa
    schema = arrow.schema([("a", arrow.int64()), ("b", arrow.int64()), ("long", arrow.bool_())])
    path = keys.scratch / "pairs.parquet"
    files: Any = parquet
    with files.ParquetWriter(path, schema, compression="lz4") as writer:
        for band in range(BANDS):
            for first, second, long in _pairs_of_band(keys, f"band_{band}"):
                writer.write_table(arrow.table([first, second, long], schema=schema))
    keys.connection.execute(
        f"CREATE TABLE candidates AS SELECT a, b FROM read_parquet('{quoted(path)}') GROUP BY a, b "
        f"HAVING NOT bool_or(long) OR count(*) >= {MIN_LONG_BANDS}"
    )
    path.unlink()
    return "candidates"


def _pairs_of_band(keys: KeyTable, band: str) -> Iterator[list[NDArray[Any]]]:
    rows: _Rows | None = None
    query = f"SELECT {band} AS hash, position, shape FROM texts ORDER BY hash, position"
    for batch in keys.batches(query, _FETCHED):
        hashes, positions, shapes = (np.asarray(column) for column in batch.columns)
        rows = _Rows(hashes, positions, shapes, rows)
        yield from rows.pairs()


class _Rows:
    """Rows sorted by hash and position: a batch, and before it the last ones of the batch before.

    A *run* is the rows with one hash. A row is compared with the `NEIGHBOURS` rows before it in its run, and, where the
    run is longer, with the run's first row: the first of many like texts is the one that the others are duplicates of.
    """

    def __init__(
        self, hashes: NDArray[Any], positions: NDArray[Any], shapes: NDArray[Any], before: _Rows | None
    ) -> None:
        self._old = 0
        if before is not None:
            self._old = min(NEIGHBOURS, len(before.hashes))
            hashes = np.concatenate((before.hashes[-NEIGHBOURS:], hashes))
            positions = np.concatenate((before.positions[-NEIGHBOURS:], positions))
            shapes = np.concatenate((before.shapes[-NEIGHBOURS:], shapes))
        self.hashes, self.positions, self.shapes = hashes, positions, shapes
        begins = np.concatenate(([True], hashes[1:] != hashes[:-1]))
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

    def pairs(self) -> Iterator[list[NDArray[Any]]]:
        """Yield the pairs whose second row is in the batch: the positions, and whether they are long texts."""
        size, distance = len(self.hashes), 0
        while distance < NEIGHBOURS:
            distance += 1
            begin = max(self._old, distance)
            second = np.flatnonzero(self.hashes[begin:] == self.hashes[begin - distance : size - distance]) + begin
            if not len(second):
                return
            first = second - distance
            yield _possible(self.positions[first], self.shapes[first], self.positions[second], self.shapes[second])
        far = np.flatnonzero(self._from_start[self._old :] > NEIGHBOURS) + self._old
        yield _possible(
            self._first_positions[far], self._first_shapes[far], self.positions[far], self.shapes[far]
        )


def _possible(
    first: NDArray[Any], first_shapes: NDArray[Any], second: NDArray[Any], second_shapes: NDArray[Any]
) -> list[NDArray[Any]]:
    """Return the pairs whose lengths allow a similarity of 0.8."""
    letters, characters, grams = (
        (np.minimum(one, other), np.maximum(one, other))
        for one, other in zip(_unpacked(first_shapes), _unpacked(second_shapes), strict=True)
    )
    long = letters[1] >= SHORT_LETTERS
    possible = np.where(long, grams[0] * 5 >= grams[1] * 4, characters[0] * 5 >= characters[1] * 4)
    return [first[possible], second[possible], long[possible]]


def _unpacked(shapes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    mask = (1 << _SHAPE_BITS) - 1
    return shapes >> (2 * _SHAPE_BITS), (shapes >> _SHAPE_BITS) & mask, shapes & mask
