"""The base class of batchers, with the options for filtering and shuffling lengths, and the result of `plan`."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from typing import Any

import attrs

from curate.batching.lengths import Dropped, LengthFilter, Lengths
from curate.batching.shuffling import shuffled
from curate.batching.validators import number, shuffle_window, whole
from curate.errors import PlanError


class Batches(Iterator[list[int]]):
    """An iterator over the batches of one plan, as lists of indices into the given lengths.

    Attributes:
        dropped: the items that are in no batch, with the reasons; empty if `plan` was given `on_drop`. It grows as
            batches are taken, so an endless stream with bounds needs `on_drop`.
    """

    def __init__(self, batches: Generator[list[int]], dropped: list[Dropped]) -> None:
        self._batches = batches
        self.dropped = dropped

    def __next__(self) -> list[int]:
        return next(self._batches)

    def close(self) -> None:
        """Stop planning and release the lengths that were read ahead."""
        self._batches.close()


@attrs.frozen(kw_only=True)
class Batcher:
    """Cuts a stream of lengths into batches. The settings are frozen, and calls of `plan` share no state.

    Args:
        min_s: shorter items are dropped.
        max_s: longer items are dropped.
        assumed_s: the length, in seconds, of an item whose own is unknown (None, NaN, not above 0). None: such an
            item is a `RecordError`. Choose the longest possible length: a batch planned with less may not fit into
            memory.
        example_shuffle_window: the number of items from which the next one is drawn at random, before batching;
            1 switches it off.
        batch_shuffle_window: the number of batches from which the next one is drawn at random; 1 switches it off.
        seed: the seed of both shuffles.
    """

    min_s: float | None = attrs.field(default=None, validator=number(least=0, optional=True))
    max_s: float | None = attrs.field(default=None, validator=number(above=0, optional=True))
    assumed_s: float | None = attrs.field(default=None, validator=number(above=0, optional=True))
    example_shuffle_window: int = attrs.field(default=1, validator=shuffle_window)
    batch_shuffle_window: int = attrs.field(default=1, validator=shuffle_window)
    seed: int = attrs.field(default=0, validator=whole(0))

    def __attrs_post_init__(self) -> None:
        if self.min_s is not None and self.max_s is not None and self.min_s > self.max_s:
            raise PlanError(f"min_s={self.min_s:g} is above max_s={self.max_s:g}: no length is between them")
        if self.assumed_s is not None and self.max_s is not None and self.assumed_s > self.max_s:
            raise PlanError(f"assumed_s={self.assumed_s:g} is above max_s={self.max_s:g}: such an item is left out")

    def plan(self, durations: Iterable[Any], *, on_drop: Callable[[Dropped], None] | None = None) -> Batches:
        """Yield the batches of `durations`, which may be endless: little more than a window of them is held.

        Args:
            durations: lengths in seconds.
            on_drop: called with each dropped item; without it, dropped items are collected in the result's `dropped`.

        Raises:
            RecordError: while iterating, at an unknown length without `assumed_s`.
        """
        dropped: list[Dropped] = []
        return Batches(self._planned(durations, on_drop or dropped.append), dropped)

    def _planned(self, durations: Iterable[Any], drop: Callable[[Dropped], None]) -> Generator[list[int]]:
        window = self.example_shuffle_window
        order = partial(shuffled, window=window, seed=self.seed) if window > 1 else None
        batches = self.cut(Lengths(durations, self._allowed(), drop, order), drop)
        if self.batch_shuffle_window > 1:
            batches = shuffled(batches, self.batch_shuffle_window, self.seed)
        yield from batches

    def _allowed(self) -> LengthFilter:
        return LengthFilter(self.min_s, self.max_s, self.assumed_s)

    def cut(self, lengths: Lengths, drop: Callable[[Dropped], None]) -> Iterator[list[int]]:
        """Yield batches of the given lengths; `plan` calls it."""
        raise NotImplementedError(f"{type(self).__name__} must define cut()")


def report_remainder(items: Iterable[tuple[int, float]], drop: Callable[[Dropped], None]) -> None:
    """Report the items of a batch that did not become full."""
    for index, length_s in items:
        known_s = None if math.isnan(length_s) else length_s
        drop(Dropped(index, known_s, "in the remainder, which drop_remainder drops"))
