"""The resolution of commits: it decides from the commits alone which outcomes of an input are current.

A retry replaces the earlier outcome of an input. Commits are numbered over all phases, and none is ever rewritten. So

- of two outcomes of one input, the one with the higher number is current;
- a later phase's outcome of replaced records is superseded if its number is lower than the replacement's;
- a phase after a gather depends on all records, so all of it is superseded if any record before it is replaced later;
- a shard holds many records, so all of a phase that makes shards is superseded if a record of it is retried. Shards of
  the same records are found again by their names.

Superseded work has to be done again. The run does so when it resumes, even if the attempt that began the retry crashed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import attrs

from curate.engine.durability.commit import Commit, ranges_in_order
from curate.engine.durability.positions import InputPositions, positions_after


@attrs.frozen
class CurrentCommits:
    """The current commits of a run.

    Args:
        commits: phase → its commits, with the positions that are replaced in each; accounts are not yet corrected.
        places: phase → the positions of its input.
        superseded: commits of which no outcome is current, because all of their phase has to be done again.
    """

    commits: Mapping[int, Sequence[Commit]]
    places: Mapping[int, InputPositions]
    superseded: Sequence[Commit]


def resolve_commits(
    commits: Mapping[int, Sequence[Commit]], gathers: Collection[int], retried: Mapping[int, Collection[int]]
) -> CurrentCommits:
    """Determine which outcomes are current.

    Args:
        commits: phase → all commits on disk.
        gathers: the phases that begin with a gather.
        retried: phase → positions of inputs to be done again now, whatever their outcome.
    """
    counting: dict[int, Sequence[Commit]] = {}
    places: dict[int, InputPositions] = {0: InputPositions()}
    superseded: list[Commit] = []
    # `since` maps a gap of the phase's input to the number of the commit that filled it last. A commit of this phase
    # with a lower number has processed the records that were in the gap before, so its outcome of them is superseded.
    # `everything_since` is the same for all positions after a gather, whose output depends on every record before it.
    since: dict[int, int] = {}
    everything_since = -1
    for phase in range(max(commits, default=-1) + 1):
        if phase in gathers:
            everything_since = max((everything_since, *since.values()))
            places[phase], since = InputPositions(), {}
        found = sorted(commits.get(phase, ()), key=lambda commit: commit.number)
        superseded.extend(commit for commit in found if commit.number < everything_since)
        found = [commit for commit in found if commit.number > everything_since]
        if retried.get(phase) and any(commit.file("shard") for commit in found):
            superseded.extend(found)
            found = []
        replaced, since_here = _replaced(found, places[phase], since, retried.get(phase, ()))
        counting[phase] = [
            attrs.evolve(commit, replaced=frozenset(replaced.get(commit.number, ()))) for commit in found
        ]
        places[phase + 1] = _behind(places[phase], counting[phase])
        by_origin = zip(places[phase + 1].gap_origins, places[phase + 1].retry_gaps, strict=True)
        since = {slot: since_here[origin] for origin, slot in by_origin if origin in since_here}
    return CurrentCommits(counting, places, superseded)


def _behind(before: InputPositions, commits: Sequence[Commit]) -> InputPositions:
    apart = frozenset(position for commit in commits for position in commit.individually_tracked)
    return positions_after(before, ranges_in_order(commits), apart)


def _replaced(
    commits: Sequence[Commit], places: InputPositions, since: Mapping[int, int], retried: Collection[int]
) -> tuple[dict[int, set[int]], dict[int, int]]:
    """Return the replaced positions of each commit, and for each gap the number of the commit that filled it last."""
    replaced: dict[int, set[int]] = {}
    newest: dict[int, Commit] = {}
    known_since = dict(since)
    for commit in commits:
        for position in commit.individually_tracked:
            slot = places.gap_of(position)
            if position in retried or (slot is not None and commit.number < since.get(slot, -1)):
                replaced.setdefault(commit.number, set()).add(position)
                continue
            before = newest.get(position)
            newest[position] = commit
            if before is not None:
                replaced.setdefault(before.number, set()).add(position)
                if before.ranges.rows_at(position) or commit.ranges.rows_at(position):
                    known_since[position if slot is None else slot] = commit.number
    return replaced, known_since
