"""Reproducible shuffling of a stream through a window of fixed size."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def shuffled(items: Iterable[Item], window: int, seed: int) -> Iterator[Item]:
    """Yield every item once, each drawn at random from the next `window` items; a window of 1 keeps the order."""
    draw = random.Random(seed)
    waiting: list[Item] = []
    for item in items:
        waiting.append(item)
        if len(waiting) >= window:
            yield _draw(waiting, draw)
    while waiting:
        yield _draw(waiting, draw)


def _draw(waiting: list[Item], draw: random.Random) -> Item:
    chosen = draw.randrange(len(waiting))
    waiting[chosen], waiting[-1] = waiting[-1], waiting[chosen]
    return waiting.pop()
