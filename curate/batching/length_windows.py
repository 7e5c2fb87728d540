"""The window batcher: it cuts a stream into windows of items of similar length, for stages that plan each window."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from curate.batching.batcher import Batcher
from curate.batching.lengths import Dropped, Lengths
from curate.batching.planner import LengthBatcher
from curate.batching.validators import number, whole


@attrs.frozen
class LengthWindows(Batcher):
    """Cuts windows of at most `max_items` that consist of whole planned batches.

    A stage that gets its records in windows, and has to return each before it sees the next, cannot postpone
    leftovers: planned on its own, a window of 8,192 records in arrival order wastes 0.67 % where the moving window
    wastes 0.42 %. So this batcher plans the stream, with a budget that may differ from the stage's, and fills each
    window with whole batches. The stage plans each window again, and its plan can only be better.

    Args:
        max_items: the maximum number of items in a window.
        max_batch_s: the budget for planning, between a quarter and four times the stage's.
        window: the maximum number of waiting items, not counting the window that is being filled; None: twice
            `max_items`.
    """

    max_items: int = attrs.field(default=8192, validator=whole(1))
    max_batch_s: float = attrs.field(default=400.0, validator=number(above=0))
    window: int | None = attrs.field(default=None, validator=whole(1, optional=True))

    def cut(self, lengths: Lengths, drop: Callable[[Dropped], None]) -> Iterator[list[int]]:
        planner = LengthBatcher(self.max_batch_s, window=self.window or 2 * self.max_items, max_items=self.max_items)
        filling: list[int] = []
        for batch in planner.cut(lengths, drop):
            if len(filling) + len(batch) > self.max_items:
                yield sorted(filling)
                filling = []
            filling += batch
        if filling:
            yield sorted(filling)
