"""Three stages that do next to nothing, as stages and as plain functions; importable, for workers."""

from __future__ import annotations

from curate.records import Record
from curate.stage_decorator import processing_stage


def first(record: Record) -> Record:
    record["a"] = record["x"] + 1
    return record


def second(record: Record) -> Record:
    record["b"] = record["a"] * 2
    return record


def third(record: Record) -> Record:
    record["c"] = record["b"] - record["x"]
    return record


def all_three(record: Record) -> Record:
    return third(second(first(record)))


def all_three_of_many(records: list[Record]) -> list[Record]:
    return [all_three(record) for record in records]


def spin(record: Record) -> Record:
    """Keep a core busy for more than a millisecond."""
    total = 0
    for number in range(40_000):
        total += number
    record["total"] = total
    return record


STAGES = [
    processing_stage(name="first", reads=["x"], writes=["a"])(first),
    processing_stage(name="second", reads=["a"], writes=["b"])(second),
    processing_stage(name="third", reads=["b"], writes=["c"])(third),
]
spinning = processing_stage(name="spin", writes=["total"])(spin)
