"""What became of the records, stage by stage, added up from the commits; true at any moment of a run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import attrs

from curate.engine import RunReader, StageOutcome

Kind = Literal["in", "children", "joins", "kept", "filtered", "quarantined", "split", "joined", "waiting"]

SOURCES: tuple[Kind, ...] = ("in", "children", "joins")
"""The terms of the balance that records come from; all others are where they went."""


@attrs.frozen
class BalanceTerm:
    """A term of the balance: a number of records, and their audio in milliseconds."""

    kind: Kind
    what: str
    sign: str
    records: int
    ms: int


@attrs.frozen
class StageFlow:
    """The records that reached a stage, and what became of them.

    Args:
        remained: the records that the stage handed on as they were; not the parts of split ones, nor joins.
        busy_s: the time that the stage has worked, in all its workers.
    """

    name: str
    phase: int
    records_in: int
    remained: int
    filtered: int
    quarantined: int
    split: int
    busy_s: float


@attrs.frozen
class ExitReason:
    """Why records left a stage."""

    stage: str
    fate: Literal["filtered", "quarantined"]
    because: str
    records: int
    ms: int


def balance(run: RunReader) -> list[BalanceTerm]:
    """Return the balance of a run: in + children + joins = the records that left, were kept or are still on the way.

    Audio that a stage has measured belongs to what came in.
    """
    phases = [run.counts(phase) for phase in range(len(run.layout))]
    first, last = phases[0], phases[-1]

    def added(name: str) -> int:
        return sum(getattr(books, name) for books in phases)

    # records that a phase has kept and the next has not read; 0 for a run that is finished
    waiting = sum(before.kept - after.records_in for before, after in pairwise(phases))
    waiting_ms = sum(before.kept_ms - after.in_ms for before, after in pairwise(phases))
    left_ms = sum(added(f"{name}_ms") for name in ("filtered", "quarantined", "split", "joined"))
    into_ms = last.kept_ms + left_ms + waiting_ms - added("children_ms") - added("joins_ms")
    terms = [
        BalanceTerm("in", "in", "", first.records_in, into_ms),
        BalanceTerm("children", "children", "+", added("children"), added("children_ms")),
        BalanceTerm("joins", "joins", "+", added("joins"), added("joins_ms")),
        BalanceTerm("kept", "kept", "=", last.kept, last.kept_ms),
        BalanceTerm("filtered", "filtered", "+", added("filtered"), added("filtered_ms")),
        BalanceTerm("quarantined", "quarantined", "+", added("quarantined"), added("quarantined_ms")),
        BalanceTerm("split", "split parents", "+", added("split"), added("split_ms")),
        BalanceTerm("joined", "joined parts", "+", added("joined"), added("joined_ms")),
        BalanceTerm("waiting", "still on the way", "+", waiting, waiting_ms),
    ]
    return [term for term in terms if term.records or term.kind in ("in", "kept", "filtered", "quarantined")]


def stage_flows(run: RunReader) -> list[StageFlow]:
    """Return the flow through each stage, in order."""
    return [
        StageFlow(
            flow.name,
            phase,
            flow.records_in,
            flow.records_out - flow.children - flow.joins,
            flow.filtered,
            flow.quarantined,
            flow.split,
            outcome.busy_s,
        )
        for phase, outcome in _outcomes(run)
        for flow in (outcome.flow,)
    ]


def reasons(run: RunReader) -> list[ExitReason]:
    """Return why records left, in the order of the stages, the most frequent reason first."""
    return [reason for _, outcome in _outcomes(run) for reason in _reasons(outcome)]


def _outcomes(run: RunReader) -> Iterator[tuple[int, StageOutcome]]:
    return ((phase, outcome) for phase in range(len(run.layout)) for outcome in run.stages(phase))


def _reasons(outcome: StageOutcome) -> Iterator[ExitReason]:
    name = outcome.flow.name
    yield from (ExitReason(name, "filtered", because, *counts[:2]) for because, counts in outcome.reasons.items())
    yield from (ExitReason(name, "quarantined", code, *counts[:2]) for code, counts in outcome.codes.items())
