"""The bucket batcher: length buckets as fairseq2 and Omnilingual ASR define them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator

import attrs

from curate.batching.batcher import Batcher, report_remainder
from curate.batching.lengths import Dropped, LengthFilter, Lengths
from curate.batching.validators import flag, number, whole
from curate.errors import PlanError

RATE_HZ = 16_000
"""Elements per second: an element is a sample of audio, and speech models take 16,000 a second."""


def create_bucket_sizes(
    *, max_num_elements: int, max_seq_len: int, min_seq_len: int = 1, num_seqs_multiple_of: int = 1
) -> list[tuple[int, int]]:
    """Return pairs (maximum sequences, maximum length): for each number of sequences, the greatest length that fits.

    The semantics are those of `fairseq2.data.data_pipeline.create_bucket_sizes`: a size above `num_seqs_multiple_of`
    is rounded down to a multiple, a smaller one is kept.

    Args:
        max_num_elements: the maximum number of elements (sequences × longest) in a batch.
        max_seq_len: the length of the longest bucket; must divide `max_num_elements`.
        min_seq_len: the minimum length of a bucket.
        num_seqs_multiple_of: sizes are rounded down to a multiple of this.

    Raises:
        PlanError: a number is out of range.
    """
    if not 1 <= min_seq_len <= max_seq_len <= max_num_elements:
        raise PlanError(
            f"min_seq_len={min_seq_len}, max_seq_len={max_seq_len}, max_num_elements={max_num_elements}: "
            "each must be at least as large as the one before, and the first at least 1"
        )
    if max_num_elements % max_seq_len:
        raise PlanError(f"max_num_elements={max_num_elements} must be a multiple of max_seq_len={max_seq_len}")
    if num_seqs_multiple_of < 1:
        raise PlanError(f"num_seqs_multiple_of={num_seqs_multiple_of}: must be at least 1")
    sizes: list[tuple[int, int]] = []
    sequences, length = max_num_elements, 1
    while length < max_seq_len:
        if length >= min_seq_len:
            sizes.append((sequences, length))
        sequences = max_num_elements // (length + 1)
        length = max_num_elements // sequences
    sizes.append((sequences, max_seq_len))
    return [(_multiple(sequences, num_seqs_multiple_of), length) for sequences, length in sizes]


@attrs.frozen
class BucketBatcher(Batcher):
    """Collects items in buckets by length and yields each bucket when it is full, like fairseq2's `bucket_by_length`.

    For comparison, and for training with a fixed set of shapes; `LengthBatcher` wastes less and needs less buffer.
    At the end, the longest non-empty bucket is filled up from the shorter ones.

    Args:
        max_batch_s: the maximum padded audio in a batch, in seconds; rounded down to a multiple of `max_s`.
        max_s: the maximum length of an item, in seconds; longer items are dropped.
        multiple_of: larger numbers of items are rounded down to a multiple of this.
        max_bucket_size: the maximum number of items in a batch. (It caps the buckets of short items, and never
            removes them.)
        drop_remainder: drop the items of a bucket that did not become full, and report them as dropped.
        rate_hz: elements per second.
    """

    max_batch_s: float = attrs.field(default=200.0, validator=number(above=0))
    max_s: float = attrs.field(default=40.0, validator=number(above=0))
    multiple_of: int = attrs.field(default=1, validator=whole(1))
    max_bucket_size: int | None = attrs.field(default=None, validator=whole(1, optional=True))
    drop_remainder: bool = attrs.field(default=False, validator=flag)
    rate_hz: int = attrs.field(default=RATE_HZ, validator=whole(1))

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.max_s > self.max_batch_s:
            raise PlanError(
                f"max_s={self.max_s:g} is above max_batch_s={self.max_batch_s:g}: such an item would not fit in a batch"
            )

    def buckets(self) -> list[tuple[int, float]]:
        """Return pairs (maximum items, maximum length in seconds), shortest first."""
        elements = math.floor(self.max_batch_s * self.rate_hz)
        longest = min(elements, math.ceil(self.max_s * self.rate_hz))
        sizes = create_bucket_sizes(
            max_num_elements=elements - elements % longest,
            max_seq_len=longest,
            min_seq_len=min(longest, max(1, int((self.min_s or 0) * self.rate_hz))),
            num_seqs_multiple_of=self.multiple_of,
        )
        most = sizes[0][0] if self.max_bucket_size is None else _multiple(self.max_bucket_size, self.multiple_of)
        return [(min(items, most), length / self.rate_hz) for items, length in sizes]

    def _allowed(self) -> LengthFilter:
        return LengthFilter(self.min_s, self.max_s, self.assumed_s)

    def cut(self, lengths: Lengths, drop: Callable[[Dropped], None]) -> Iterator[list[int]]:
        sizes = self.buckets()
        ends = [length_s for _, length_s in sizes]
        waiting: list[list[tuple[int, float]]] = [[] for _ in sizes]
        for index, length_s in lengths:
            place = min(bisect_left(ends, length_s), len(sizes) - 1)
            waiting[place].append((index, length_s))
            if len(waiting[place]) == sizes[place][0]:
                yield [index for index, _ in waiting[place]]
                waiting[place] = []
        for place in reversed(range(len(sizes))):
            most = sizes[place][0]
            while waiting[place]:
                batch, waiting[place] = waiting[place], []
                for shorter in reversed(range(place)):
                    while len(batch) < most and waiting[shorter]:
                        batch.append(waiting[shorter].pop())
                if self.drop_remainder and len(batch) < most:
                    report_remainder(batch, drop)
                else:
                    yield [index for index, _ in batch]


def _multiple(count: int, of: int) -> int:
    return count - count % of if count > of else count
