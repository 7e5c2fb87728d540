"""Pairs of texts that may be near duplicates: those that share bands, found by sorting one band after the other.

Nothing here grows with the number of texts but files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from curate.corpus.key_table import KeyTable, quoted
from curate.corpus.minhash import BANDS
from curate.corpus.neighbours import pairs_by_hash
from curate.corpus.similarity import SHORT_LETTERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_LONG_BANDS = 3
"""Texts of 40 letters and more are candidates from this number of equal bands on: at a Jaccard similarity of 0.8 they
have 13 of 32, and fewer than 3 with a probability of 0.00001; at 0.3 they have 3 with one of 0.003."""

_SHAPE_BITS = 20


def pack_shape(letters: int, characters: int, grams: int) -> int:
    """Return the lengths of a transcript in one number, which shows whether two can be near duplicates at all."""
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
            query = f"SELECT band_{band} AS hash, position, shape FROM texts"
            for pairs in pairs_by_hash(keys, query):
                writer.write_table(arrow.table(_possible(*pairs), schema=schema))
    keys.connection.execute(
        f"CREATE TABLE candidates AS SELECT a, b FROM read_parquet('{quoted(path)}') GROUP BY a, b "
        f"HAVING NOT bool_or(long) OR count(*) >= {MIN_LONG_BANDS}"
    )
    path.unlink()
    return "candidates"


def _possible(
    first: NDArray[Any], first_shapes: NDArray[Any], second: NDArray[Any], second_shapes: NDArray[Any]
) -> list[NDArray[Any]]:
    """Return the pairs whose lengths allow a similarity of 0.8, and whether they are long texts."""
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
