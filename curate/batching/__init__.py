"""Length-aware batch planning: batchers take lengths and yield lists of indices.

    for batch in LengthBatcher(max_batch_s=200.0).plan(durations): ...

The package does not depend on records, audio or models. Importing it loads neither numpy nor torch; planning by
length loads numpy.
"""

from typing import TYPE_CHECKING, NoReturn

from curate.batching.advice import Advice, suggest
from curate.batching.balancing import balance, merge_balanced, mix
from curate.batching.batcher import Batcher, Batches
from curate.batching.buckets import BucketBatcher, create_bucket_sizes
from curate.batching.controller import Adjustment, BatchController
from curate.batching.costs import ITEMS, PADDED_SECONDS, Calibration, CostModel
from curate.batching.duration import DurationBatcher
from curate.batching.length_windows import LengthWindows
from curate.batching.lengths import Dropped
from curate.batching.planner import LengthBatcher, MemoryBatcher
from curate.batching.scoring import Score, score
from curate.batching.splitting import Finished, Unfit, run_splitting, split_to_fit
from curate.batching.static import StaticBatcher
from curate.batching.strategies import STRATEGIES, make_batcher
from curate.suggest import unknown_attribute

__all__ = [
    "ITEMS",
    "PADDED_SECONDS",
    "STRATEGIES",
    "Adjustment",
    "Advice",
    "BatchController",
    "Batcher",
    "Batches",
    "BucketBatcher",
    "Calibration",
    "CostModel",
    "Dropped",
    "DurationBatcher",
    "Finished",
    "LengthBatcher",
    "LengthWindows",
    "MemoryBatcher",
    "Score",
    "StaticBatcher",
    "Unfit",
    "balance",
    "create_bucket_sizes",
    "make_batcher",
    "merge_balanced",
    "mix",
    "run_splitting",
    "score",
    "split_to_fit",
    "suggest",
]


if not TYPE_CHECKING:  # a type checker would take any name for a known one

    def __getattr__(name: str) -> NoReturn:
        raise unknown_attribute(__name__, name, __all__)
