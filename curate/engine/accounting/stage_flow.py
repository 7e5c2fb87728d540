"""Follows the records of a phase through its stages, from counts alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

StageCounts: TypeAlias = "Mapping[str, Mapping[str, int]]"
"""Stage → name of a count of `StageFlow` → number of records; what is not named is 0."""


@dataclass(frozen=True, slots=True)
class StageFlow:
    """The records that reached a stage, and their outcomes there.

    Args:
        records_out: the records that the stage handed on.
        split: the records that became `children`.
        joined: the parts that became `joins`.
    """

    name: str
    records_in: int
    records_out: int
    filtered: int
    quarantined: int
    split: int
    children: int
    joined: int
    joins: int


def add_stage_counts(total: dict[str, dict[str, int]], part: StageCounts) -> None:
    """Add counts to `total`, stage by stage."""
    for stage, counts in part.items():
        of_stage = total.setdefault(stage, {})
        for name, amount in counts.items():
            of_stage[name] = of_stage.get(name, 0) + amount


def follow_stages(stages: Iterable[str], records_in: int, parts: Iterable[StageCounts]) -> list[StageFlow]:
    """Return the flow through each stage of a phase.

    What a stage hands on is what the next one gets, so the counts of who left where determine everything else.

    Args:
        stages: their names, in order.
        records_in: the number of records that reached the first one.
        parts: counts that are added up, such as those of the phase's commits.
    """
    counts: dict[str, dict[str, int]] = {}
    for part in parts:
        add_stage_counts(counts, part)
    flows: list[StageFlow] = []
    for name in stages:
        own = counts.get(name, {})
        filtered, quarantined, split, children, joined, joins = (
            own.get(what, 0) for what in ("filtered", "quarantined", "split", "children", "joined", "joins")
        )
        records_out = records_in - filtered - quarantined - split - joined + children + joins
        flows.append(StageFlow(name, records_in, records_out, filtered, quarantined, split, children, joined, joins))
        records_in = records_out
    return flows
