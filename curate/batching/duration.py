"""The duration batcher: batches of about equal audio, bounded in their sum of durations and in their padded size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import attrs

from curate.batching.batcher import Batcher
from curate.batching.lengths import Dropped, Lengths
from curate.batching.validators import number, whole


@attrs.frozen
class DurationBatcher(Batcher):
    """Cuts batches whose durations sum to at most `max_batch_s`, out of windows sorted by length.

    A sum of durations does not bound the work: a model pads every clip to the longest. So the padded size is bounded
    too, by `max_padding` times `max_batch_s`. One item that is longer than that forms a batch alone.

    Args:
        max_batch_s: the maximum audio in a batch, in seconds, without padding.
        window: the number of items that are sorted at a time.
        max_items: the maximum number of items in a batch.
        max_padding: the maximum padded size (items × longest), as a multiple of `max_batch_s`.
    """

    max_batch_s: float = attrs.field(default=120.0, validator=number(above=0))
    window: int = attrs.field(default=8192, validator=whole(1))
    max_items: int | None = attrs.field(default=None, validator=whole(1, optional=True))
    max_padding: float = attrs.field(default=1.1, validator=number(least=1))

    def cut(self, lengths: Lengths, drop: Callable[[Dropped], None]) -> Iterator[list[int]]:
        carried: list[tuple[float, int]] = []
        longest_first = False
        while True:
            indices, seconds = lengths.take(self.window - len(carried))
            if not len(indices):
                break
            items = [*carried, *zip(seconds.tolist(), indices.tolist(), strict=True)]
            *full, carried = self._groups(sorted(items, reverse=longest_first))
            if len(carried) == self.window:  # the window holds less than one batch
                full, carried = [*full, carried], []
            yield from ([index for _, index in group] for group in full)
            # leftovers are at one end of the lengths; the next window starts at that end, so no item waits for ever
            longest_first = not longest_first
        if carried:
            yield [index for _, index in carried]

    def _groups(self, items: list[tuple[float, int]]) -> list[list[tuple[float, int]]]:
        most_items = math.inf if self.max_items is None else self.max_items
        groups: list[list[tuple[float, int]]] = []
        sum_s = longest_s = math.inf
        for item in items:
            length_s = item[0]
            padded_s = max(longest_s, length_s) * (len(groups[-1]) + 1) if groups else math.inf
            fits = sum_s + length_s <= self.max_batch_s and padded_s <= self.max_padding * self.max_batch_s
            if fits and len(groups[-1]) < most_items:
                groups[-1].append(item)
                sum_s += length_s
                longest_s = max(longest_s, length_s)
            else:
                groups.append([item])
                sum_s = longest_s = length_s
        return groups
