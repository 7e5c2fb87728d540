"""A quick stage, and a slow one that leaves most records out, in another hop; importable, for workers."""

from __future__ import annotations

from curate import Reject, Resources, processing_stage
from curate.records import Record

NUMBERS = 1000
"""One record in so many is kept, so that what is measured is the way there and not what is kept."""


@processing_stage(name="kept_up", writes=["y"])
def kept_up(record: Record) -> Record:
    record["y"] = record["x"] + 1
    return record


@processing_stage(name="slow", writes=[], cardinality="filters", resources=Resources(cpus=0.5))
def slow(record: Record) -> Record | Reject:
    total = 0
    for number in range(300):
        total += number
    return record if record["x"] % NUMBERS == 0 else Reject("one of many")
