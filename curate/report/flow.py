"""What became of the records, stage by stage, added up from the commits; true at any moment of a run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import attrs

from curate.engine.accounting.reasons import add_reasons
from curate.report.run_files import RunFiles

Kind = Literal["in", "children", "kept", "filtered", "quarantined", "split", "waiting"]


@attrs.frozen
class BalanceTerm:
    """A side of the balance: so many records, and so much of their audio."""

    kind: Kind
    what: str
    sign: str
    records: int
    ms: int


@attrs.frozen
class StageFlow:
    """What came to a stage, and what became of it there."""

    name: str
    phase: int
    records_in: int
    out: int
    filtered: int
    quarantined: int
    split: int
    children: int
    busy_s: float


@attrs.frozen
class ExitReason:
    """Why records left a stage."""

    stage: str
    fate: Literal["filtered", "quarantined"]
    because: str
    records: int
    ms: int


def balance(files: RunFiles) -> list[BalanceTerm]:
    """Return the balance of a run: in + children = kept + filtered + quarantined + split parents + still on the way.

    Audio that a stage has measured belongs to what came in.
    """
    phases = [files.books(phase) for phase in range(len(files.layout))]
    first, last = phases[0], phases[-1]

    def added(name: str) -> int:
        return sum(getattr(books, name) for books in phases)

    # what a phase has kept and the next has not come to; 0 for a run that is done
    waiting = sum(before.kept - after.records_in for before, after in pairwise(phases))
    waiting_ms = sum(before.kept_ms - after.in_ms for before, after in pairwise(phases))
    out_ms = last.kept_ms + added("filtered_ms") + added("quarantined_ms") + added("split_ms") + waiting_ms
    into_ms = out_ms - added("children_ms")
    terms = [
        BalanceTerm("in", "in", "", first.records_in, into_ms),
        BalanceTerm("children", "children", "+", added("children"), added("children_ms")),
        BalanceTerm("kept", "kept", "=", last.kept, last.kept_ms),
        BalanceTerm("filtered", "filtered", "+", added("filtered"), added("filtered_ms")),
        BalanceTerm("quarantined", "quarantined", "+", added("quarantined"), added("quarantined_ms")),
        BalanceTerm("split", "split parents", "+", added("split"), added("split_ms")),
        BalanceTerm("waiting", "still on the way", "+", waiting, waiting_ms),
    ]
    return [term for term in terms if term.records or term.kind in ("in", "kept", "filtered", "quarantined")]


def stage_flows(files: RunFiles) -> list[StageFlow]:
    """Follow the records through the stages."""
    flows: list[StageFlow] = []
    for phase, stages in enumerate(files.layout):
        commits = files.commits.get(phase, ())
        left = files.books(phase).records_in
        for name in stages:
            counts = {"filtered": 0, "quarantined": 0, "split": 0, "children": 0}
            for commit in commits:
                for what, amount in commit.stages.get(name, {}).items():
                    counts[what] += amount
            busy_s = sum(commit.busy_s.get(name, 0.0) for commit in commits)
            came, left = left, left - counts["filtered"] - counts["quarantined"] - counts["split"] + counts["children"]
            flows.append(StageFlow(name, phase, came, left, busy_s=busy_s, **counts))
    return flows


def reasons(files: RunFiles) -> list[ExitReason]:
    """Return why records were left out, in the order of the stages, the most frequent reason first."""
    return list(_reasons(files))


def _reasons(files: RunFiles) -> Iterator[ExitReason]:
    for phase, stages in enumerate(files.layout):
        commits = files.commits.get(phase, ())
        for name in stages:
            filtered = add_reasons(commit.reasons.get(name, {}) for commit in commits)
            failed = add_reasons(commit.stage_codes.get(name, {}) for commit in commits)
            yield from (ExitReason(name, "filtered", because, *counts[:2]) for because, counts in filtered.items())
            yield from (ExitReason(name, "quarantined", code, *counts[:2]) for code, counts in failed.items())
