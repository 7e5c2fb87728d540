"""Pairs of texts that may be near duplicates: those that share bands, found by sorting one band after the other.

A pair is one number: the two positions, counted from the lowest, and whether one of the texts is long. Nothing here
grows with the number of texts but files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from curate.corpus.key_table import KeyTable
from curate.corpus.minhash import BANDS
from curate.corpus.neighbours import pairs_by_hash
from curate.corpus.pair_files import PairFiles
from curate.corpus.similarity import SHORT_LETTERS
from curate.errors import InfrastructureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_LONG_BANDS = 3
"""Texts of 40 letters and more are candidates from this number of equal bands on: at a Jaccard similarity of 0.8 they
have 13 of 32, and fewer than 3 with a probability of 0.00001; at 0.3 they have 3 with one of 0.003."""

_POSITION_BITS = 31

_SHAPE_BITS = 20


def pack_shape(letters: int, characters: int, grams: int) -> int:
    """Return the lengths of a transcript in one number, which shows whether two can be near duplicates at all."""
    most = (1 << _SHAPE_BITS) - 1
    return min(letters, most) << (2 * _SHAPE_BITS) | min(characters, most) << _SHAPE_BITS | min(grams, most)


def find_candidates(keys: KeyTable) -> str:
    """Write the pairs of candidates to a table, and return its name. Its columns: `a` < `b`, as positions.

    Args:
        keys: a database with the table `texts`: `position`, `shape`, and `band_0` … `band_31`.

    Raises:
        InfrastructureError: there are more than 2^31 records.
    """
    query = "SELECT coalesce(min(position), 0), coalesce(max(position), 0) FROM texts"
    lowest, highest = keys.connection.execute(query).fetchone()
    if highest - lowest >= 1 << _POSITION_BITS:
        raise InfrastructureError(f"near duplicates are found among {1 << _POSITION_BITS:,} records at most")
    keys.connection.execute("CREATE TABLE candidates (a BIGINT, b BIGINT)")
    with PairFiles(keys.scratch) as files:
        for band in range(BANDS):
            for first, first_shapes, second, second_shapes in pairs_by_hash(
                keys, f"SELECT band_{band} AS hash, position, shape FROM texts"
            ):
                possible, long = _possible(first_shapes, second_shapes)
                files.append(_packed(first[possible] - lowest, second[possible] - lowest, long[possible]))
        for pairs in files.sorted_parts():
            _insert(keys, _frequent(pairs), lowest)
    return "candidates"


def _insert(keys: KeyTable, pairs: NDArray[np.uint64], lowest: int) -> None:
    import pyarrow as pa

    arrow: Any = pa
    mask = np.uint64((1 << _POSITION_BITS) - 1)
    columns = [pairs >> np.uint64(1 + _POSITION_BITS), pairs >> np.uint64(1) & mask]
    found = arrow.table([column.astype(np.int64) + lowest for column in columns], names=["a", "b"])
    with keys.connection.cursor() as cursor:
        cursor.register("found", found)
        cursor.execute("INSERT INTO candidates SELECT a, b FROM found")


def _packed(first: NDArray[Any], second: NDArray[Any], long: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a number for each pair, with its higher bits for the first."""
    bits = first.astype(np.uint64) << np.uint64(1 + _POSITION_BITS) | second.astype(np.uint64) << np.uint64(1)
    return bits | long.astype(np.uint64)


def _frequent(pairs: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return each pair of short texts, and the pairs of long ones that are repeated often enough, once each."""
    begins = np.flatnonzero(np.concatenate(([True], pairs[1:] != pairs[:-1])))
    counts = np.diff(begins, append=len(pairs))
    found = pairs[begins]
    return found[(found & np.uint64(1) == 0) | (counts >= MIN_LONG_BANDS)]


def _possible(shapes: NDArray[Any], other_shapes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return which pairs have lengths that allow a similarity of 0.8, and which are long texts."""
    letters, characters, grams = (
        (np.minimum(one, other), np.maximum(one, other))
        for one, other in zip(_unpacked(shapes), _unpacked(other_shapes), strict=True)
    )
    long = letters[1] >= SHORT_LETTERS
    return np.where(long, grams[0] * 5 >= grams[1] * 4, characters[0] * 5 >= characters[1] * 4), long


def _unpacked(shapes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    mask = (1 << _SHAPE_BITS) - 1
    return shapes >> (2 * _SHAPE_BITS), (shapes >> _SHAPE_BITS) & mask, shapes & mask
