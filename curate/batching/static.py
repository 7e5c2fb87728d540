"""Batches of a fixed number of items, in the order in which they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from curate.batching.batcher import Batcher, report_remainder
from curate.batching.lengths import Dropped, Lengths, Range
from curate.batching.validators import flag, whole


@attrs.frozen
class StaticBatcher(Batcher):
    """Cuts batches of `batch_size` items in arrival order, whatever their length; two thirds of it can be padding.

    For debugging, and for models that take a fixed shape. Unknown lengths are no error here, unless `min_s` or
    `max_s` asks about them.

    Args:
        batch_size: items in a batch.
        drop_remainder: leave out what does not fill a last batch; reported as dropped.
    """

    batch_size: int = attrs.field(validator=whole(1))
    drop_remainder: bool = attrs.field(default=False, validator=flag)

    def _allowed(self) -> Range:
        return Range(self.min_s, self.max_s, self.assumed_s, needed=False)

    def cut(self, lengths: Lengths, drop: Callable[[Dropped], None]) -> Iterator[list[int]]:
        batch: list[tuple[int, float]] = []
        for pair in lengths:
            batch.append(pair)
            if len(batch) == self.batch_size:
                yield [index for index, _ in batch]
                batch = []
        if batch and self.drop_remainder:
            report_remainder(batch, drop)
        elif batch:
            yield [index for index, _ in batch]
