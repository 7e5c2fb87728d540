"""Which of many points lie in a polygon: a grid decides most, and only those in cells on its edges are computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

_CELLS: Final = 128


def inside(x: Any, y: Any, corners: Sequence[tuple[float, float]]) -> Any:
    """Return for each point whether it is in a polygon: a ray to the right crosses its edges an odd number of times.

    Args:
        x, y: arrays of the points' coordinates; NaN is outside.
        corners: three or more corners.
    """
    edges = np.asarray(corners, dtype=float)
    (least_x, least_y), (most_x, most_y) = edges.min(axis=0), edges.max(axis=0)
    result = np.zeros(len(x), dtype=bool)
    in_box = np.flatnonzero((x >= least_x) & (x <= most_x) & (y >= least_y) & (y <= most_y))
    if not len(in_box) or least_x == most_x or least_y == most_y:
        return result
    px, py = x[in_box], y[in_box]
    width, height = (most_x - least_x) / _CELLS, (most_y - least_y) / _CELLS
    column = np.minimum((px - least_x) / width, _CELLS - 1).astype(int)
    line = np.minimum((py - least_y) / height, _CELLS - 1).astype(int)
    centre_x = least_x + (np.arange(_CELLS) + 0.5) * width
    centre_y = least_y + (np.arange(_CELLS) + 0.5) * height
    whole = _crosses(np.tile(centre_x, _CELLS), np.repeat(centre_y, _CELLS), edges).reshape(_CELLS, _CELLS)
    on_edge = _cells_on_edges(edges, (least_x, least_y), (width, height))
    found = whole[line, column]
    exact = on_edge[line, column]
    found[exact] = _crosses(px[exact], py[exact], edges)
    result[in_box] = found
    return result


def _crosses(x: Any, y: Any, edges: Any) -> Any:
    odd = np.zeros(len(x), dtype=bool)
    for (x1, y1), (x2, y2) in zip(edges, np.roll(edges, -1, axis=0), strict=True):
        if y1 == y2:
            continue
        low, high = (y1, y2) if y1 < y2 else (y2, y1)
        odd ^= (y >= low) & (y < high) & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return odd


def _cells_on_edges(edges: Any, origin: tuple[float, float], size: tuple[float, float]) -> Any:
    """Return the cells that an edge may go through, with a margin of one cell."""
    near = np.zeros((_CELLS + 2, _CELLS + 2), dtype=bool)
    for start, end in zip(edges, np.roll(edges, -1, axis=0), strict=True):
        steps = np.linspace(0, 1, 2 * _CELLS + 1)[:, None]  # less than a cell apart on each axis
        columns, lines = ((start + steps * (end - start) - origin) / size).astype(int).T
        columns, lines = np.clip(columns, 0, _CELLS - 1), np.clip(lines, 0, _CELLS - 1)
        for right in (0, 1, 2):
            for down in (0, 1, 2):
                near[lines + down, columns + right] = True
    return near[1:-1, 1:-1]
