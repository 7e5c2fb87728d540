"""MinHash signatures of short texts: character 3-grams, 128 hash functions, 32 bands of 4.

A band of two texts is equal with a probability of J⁴, where J is the Jaccard similarity of their 3-grams, so at least
one of 32 bands is with 1 − (1 − J⁴)³²: 0.9998 at J = 0.7, 0.87 at 0.5, 0.0005 at 0.06. Word n-grams do not suit
utterances: five words have one 5-gram, and any changed word removes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRAM = 3
"""The number of characters in a gram."""

BANDS = 32
ROWS = 4
"""Bands, and hash functions in each."""

_PADDING = " " * (GRAM - 1)
"""Added at both ends, so that the first and last letters are in as many grams as the others."""

_CHUNK_GRAMS = 1 << 16
"""Grams that are hashed together: arrays of this size stay in the processor's cache."""

_SEED = 1


def _multipliers() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    random = np.random.Generator(np.random.PCG64(_SEED))
    factors = random.integers(0, 1 << 31, BANDS * ROWS, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return factors, random.integers(0, 1 << 32, BANDS * ROWS, dtype=np.uint32)


_FACTORS, _ADDENDS = _multipliers()
_BAND_FACTORS = np.random.Generator(np.random.PCG64(_SEED + 1)).integers(
    0, 1 << 63, (BANDS, ROWS), dtype=np.uint64
) * np.uint64(2) + np.uint64(1)


def grams(text: str) -> set[str]:
    """Return the character 3-grams of a string with blanks at both ends."""
    padded = f"{_PADDING}{text}{_PADDING}"
    return {padded[start : start + GRAM] for start in range(len(padded) - GRAM + 1)}


def jaccard(one: str, other: str) -> float:
    """Return the Jaccard similarity of the 3-grams of two texts: 1 for equal texts, 0 without a common gram."""
    first, second = grams(one), grams(other)
    common = len(first & second)
    return common / (len(first) + len(second) - common)


def text_bands(texts: Sequence[str]) -> NDArray[np.uint32]:
    """Return the hashes of the bands of texts, of shape (texts, 32); texts that share one are candidates."""
    bands = np.empty((len(texts), BANDS), np.uint32)
    first, size = 0, 0
    for number, text in enumerate(texts):
        size += len(text) + 2 * (GRAM - 1)
        if size >= _CHUNK_GRAMS or number == len(texts) - 1:
            bands[first : number + 1] = _band_hashes(_signatures(texts[first : number + 1]))
            first, size = number + 1, 0
    return bands


def _signatures(texts: Sequence[str]) -> NDArray[np.uint32]:
    """Return the least value of each hash function over the grams of each text, of shape (128, texts)."""
    # The texts are joined, so that one array has the grams of all. A gram across the border of two texts begins in one
    # of the last two characters of each padding: these are left out below.
    padded = [f"{_PADDING}{text}{_PADDING}" for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    lengths = np.fromiter(map(len, padded), np.int64, len(padded))
    ends = np.cumsum(lengths)
    starts = ends - lengths
    inside = np.ones(len(codes), bool)
    inside[ends - 1] = inside[ends - 2] = False
    inside = inside[: len(codes) - GRAM + 1]
    # 21 bits hold any code point, so three of them fill 63 bits and different grams are different numbers
    numbers = (codes[:-2] << np.uint64(42)) | (codes[1:-1] << np.uint64(21)) | codes[2:]
    hashes = _mixed(numbers[inside])
    begins = starts - np.arange(len(texts)) * (GRAM - 1)
    signatures = np.empty((BANDS * ROWS, len(texts)), np.uint32)
    values = np.empty_like(hashes)
    for row in range(BANDS * ROWS):
        np.multiply(hashes, _FACTORS[row], out=values)
        np.add(values, _ADDENDS[row], out=values)
        np.minimum.reduceat(values, begins, out=signatures[row])
    return signatures


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Return hashes of 32 bits in which every bit depends on all bits of the number (the finaliser of MurmurHash3)."""
    mixed = numbers ^ (numbers >> np.uint64(33))
    mixed *= np.uint64(0xFF51AFD7ED558CCD)
    mixed ^= mixed >> np.uint64(33)
    mixed *= np.uint64(0xC4CEB9FE1A85EC53)
    return (mixed >> np.uint64(32)).astype(np.uint32)


def _band_hashes(signatures: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return one hash for the rows of each band, of shape (texts, bands)."""
    rows: Any = signatures.reshape(BANDS, ROWS, -1).astype(np.uint64)
    sums = (rows * _BAND_FACTORS[:, :, None]).sum(axis=1, dtype=np.uint64)
    return np.ascontiguousarray((sums >> np.uint64(32)).astype(np.uint32).T)
