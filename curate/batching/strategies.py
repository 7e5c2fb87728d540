"""The table of batching strategies: batchers by the name that a configuration file uses."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs

from curate.batching.batcher import Batcher
from curate.batching.buckets import BucketBatcher
from curate.batching.duration import DurationBatcher
from curate.batching.planner import LengthBatcher, MemoryBatcher
from curate.batching.static import StaticBatcher
from curate.errors import PlanError
from curate.suggest import closest

STRATEGIES: Mapping[str, type[Batcher]] = MappingProxyType(
    {
        "static": StaticBatcher,
        "length": LengthBatcher,
        "duration": DurationBatcher,
        "bucket": BucketBatcher,
        "memory": MemoryBatcher,
    }
)


def make_batcher(strategy: str, **options: Any) -> Batcher:
    """Return the batcher of a strategy with its options.

    Raises:
        PlanError: the strategy or one of its options is unknown, or an option is missing or out of range; the message
            suggests the nearest known name.
    """
    if strategy not in STRATEGIES:
        raise PlanError(f"unknown batching strategy {strategy!r}: {closest(strategy, STRATEGIES)}")
    batcher = STRATEGIES[strategy]
    fields = {field.alias: field for field in attrs.fields(batcher)}
    for name in options:
        if name not in fields:
            raise PlanError(f"batching strategy {strategy!r} has no option {name!r}: {closest(name, fields)}")
    missing = [name for name, field in fields.items() if field.default is attrs.NOTHING and name not in options]
    if missing:
        raise PlanError(f"batching strategy {strategy!r} needs {' and '.join(missing)}")
    return batcher(**options)
