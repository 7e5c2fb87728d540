"""From pairs of duplicates to groups: the records in order, each a leader or a duplicate of an earlier leader.

Groups are not chains: a record that resembles a duplicate, and not the leader, is a leader itself. So a record is never
called a duplicate of one that it does not resemble, and whatever is removed leaves one behind that it resembles.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def find_leaders(edges: Iterable[tuple[int, int]], first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield `(position, leader)` for every duplicate. Memory: one bit for each record.

    Args:
        edges: pairs of duplicates as (later, earlier) positions, in ascending order.
        first: the lowest position, which may be negative.
        last: the highest one.
    """
    duplicates = bytearray(((last - first) >> 3) + 1)
    found = first - 1
    for later, earlier in edges:
        place = earlier - first
        if later == found or duplicates[place >> 3] >> (place & 7) & 1:
            continue
        place = later - first
        duplicates[place >> 3] |= 1 << (place & 7)
        found = later
        yield later, earlier
