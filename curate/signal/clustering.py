"""Average-linkage clustering of unit vectors, by the cosine, exact within a block and out of core.

The mean similarity of the members of two clusters is the product of their mean vectors, so a cluster is its mean and
its size. A merge brings a pair no nearer to a third cluster than the nearer of both was (the linkage is reducible): all
pairs that are each other's nearest neighbours can be merged together, and other clusters keep their nearest neighbour.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]
    Places = npt.NDArray[np.intp]
    Similarities = npt.NDArray[np.float32]

BLOCK = 8192
"""The vectors that are clustered among themselves first; it changes the clusters of a larger corpus, a little."""

_TILE_VALUES = 4 * 2**20
_DIGITS = 6
"""Similarities are compared rounded: the last bits of a product depend on the shapes of the matrices."""


def cluster_vectors(vectors: Vectors, threshold: float) -> Places:
    """Return the cluster of each vector, numbered in the order of their first members.

    Vectors go through in blocks, in order, and then the clusters of all blocks together. Up to `BLOCK` vectors the
    result is that of average linkage, cut at the threshold; beyond, neighbours in a block find each other first.

    Args:
        vectors: `(vectors, values)`, of the length 1; a memory map is read a block at a time.
        threshold: the mean similarity from which two clusters are one, −1 to 1.
    """
    import numpy as np

    labels = np.zeros(len(vectors), np.intp)
    means: list[Vectors] = []
    sizes: list[npt.NDArray[np.float32]] = []
    count = 0
    for start in range(0, len(vectors), BLOCK):
        block = np.array(vectors[start : start + BLOCK], np.float32)
        found, mean, size = _linked(block, np.ones(len(block), np.float32), threshold)
        labels[start : start + BLOCK] = found + count
        count += len(mean)
        means.append(mean)
        sizes.append(size)
    if len(means) > 1:
        found, _, _ = _linked(np.concatenate(means), np.concatenate(sizes), threshold)
        labels = found[labels]
    return labels


def similarities_to_means(vectors: Vectors, labels: Places) -> Similarities:
    """Return the cosine of each vector with the mean of its cluster."""
    import numpy as np

    sums = np.zeros((int(labels.max(initial=-1)) + 1, vectors.shape[1]), np.float32)
    for start in range(0, len(vectors), BLOCK):
        np.add.at(sums, labels[start : start + BLOCK], np.asarray(vectors[start : start + BLOCK]))
    sums /= np.maximum(np.sqrt(np.einsum("ij,ij->i", sums, sums)), 1e-12)[:, None]
    found = np.zeros(len(vectors), np.float32)
    for start in range(0, len(vectors), BLOCK):
        own = sums[labels[start : start + BLOCK]]
        found[start : start + BLOCK] = np.einsum("ij,ij->i", np.asarray(vectors[start : start + BLOCK]), own)
    return found


def _linked(
    means: Vectors, sizes: npt.NDArray[np.float32], threshold: float
) -> tuple[Places, Vectors, npt.NDArray[np.float32]]:
    """Return the cluster of each row, and the means and sizes of the clusters, in the order of their first rows."""
    import numpy as np

    home = np.arange(len(means))  # the cluster of each row, as the place of its first row
    alive = np.arange(len(means))
    nearest, likeness = np.zeros(len(means), np.intp), np.zeros(len(means), np.float32)
    stale = alive
    while len(alive) > 1:
        _find_nearest(means, alive, stale, nearest, likeness)
        firsts, seconds = _reciprocal(alive, nearest, likeness, threshold)
        if not len(firsts):
            break
        weights = sizes[firsts] + sizes[seconds]
        merged = means[firsts] * sizes[firsts, None] + means[seconds] * sizes[seconds, None]
        means[firsts], sizes[firsts] = merged / weights[:, None], weights
        taken_to = np.arange(len(means))
        taken_to[seconds] = firsts
        home = taken_to[home]
        alive = np.setdiff1d(alive, seconds, assume_unique=True)
        changed = np.zeros(len(means), bool)
        changed[firsts] = changed[seconds] = True
        stale = alive[changed[alive] | changed[nearest[alive]]]
    numbers = np.zeros(len(means), np.intp)
    numbers[alive] = np.arange(len(alive))
    return numbers[home], means[alive], sizes[alive]


def _reciprocal(alive: Places, nearest: Places, likeness: Similarities, threshold: float) -> tuple[Places, Places]:
    """Return the pairs that are each other's nearest neighbours, and alike enough to be merged."""
    import numpy as np

    enough = alive[likeness[alive] >= threshold]
    firsts = enough[(nearest[nearest[enough]] == enough) & (enough < nearest[enough])]
    if not len(firsts) and len(enough):
        # Rounding can make a ring of neighbours; its most alike pair is merged.
        best = int(enough[int(np.argmax(likeness[enough]))])
        pair = sorted((best, int(nearest[best])))
        return np.array(pair[:1]), np.array(pair[1:])
    return firsts, nearest[firsts]


def _find_nearest(means: Vectors, alive: Places, stale: Places, nearest: Places, likeness: Similarities) -> None:
    """Find the nearest neighbours of the stale clusters again; of equals the first one."""
    import numpy as np

    others = means if len(alive) == len(means) else means[alive]
    place_of = np.zeros(len(means), np.intp)
    place_of[alive] = np.arange(len(alive))
    for rows in _tiles(stale, len(alive)):
        similar = np.round(means[rows] @ others.T, _DIGITS)
        similar[np.arange(len(rows)), place_of[rows]] = -np.inf
        best = similar.argmax(axis=1)
        nearest[rows] = alive[best]
        likeness[rows] = similar[np.arange(len(rows)), best]


def _tiles(rows: Places, width: int) -> Iterator[Any]:
    size = max(1, _TILE_VALUES // max(1, width))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
