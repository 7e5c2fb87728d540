"""The static batcher: batches of a fixed number of items, in arrival order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from curate.batching.batcher import Batcher, report_remainder
from curate.batching.lengths import Dropped, LengthFilter, Lengths
from curate.batching.validators import flag, whole


@attrs.frozen
class StaticBatcher(Batcher):
    """Cuts batches of `batch_size` items in arrival order, whatever their length; two thirds of a batch can be padding.

    For debugging, and for models that take a fixed shape. Unknown lengths are accepted, unless `min_s` or `max_s` is
    set.

    Args:
        batch_size: items in a batch.
        drop_remainder: drop the items that do not fill a last batch, and report them as dropped.
    """

    batch_size: int = attrs.field(validator=whole(1))
    drop_remainder: bool = attrs.field(default=False, validator=flag)

    def _allowed(self) -> LengthFilter:
        return LengthFilter(self.min_s, self.max_s, self.assumed_s, needed=False)

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
