"""Decides which outcomes count, from the commits alone: a retry replaces what a root had come to before.

Commits are numbered over all phases, and none is ever rewritten. So

- of two outcomes of one root, the one with the higher number counts;
- what a later phase made of records that have been replaced is void if its number is lower than the replacement's;
- a phase behind a gather has seen everything, so all of it is void if anything before it was replaced later.

Void is what has to be done again; the run does it when it goes on, whoever began the retry and died.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import attrs

from curate.engine.durability.commit import Commit, ranges_in_order
from curate.engine.durability.positions import InputPositions, positions_after


@attrs.frozen
class CurrentCommits:
    """What counts.

    Args:
        commits: phase → its commits, with the positions that are replaced in each; accounts are not yet corrected.
        places: phase → the positions of its input.
        void: commits that count no more at all, because a gather before them has to be done again.
    """

    commits: Mapping[int, Sequence[Commit]]
    places: Mapping[int, InputPositions]
    superseded: Sequence[Commit]


def resolve_commits(
    commits: Mapping[int, Sequence[Commit]], gathers: Collection[int], retried: Mapping[int, Collection[int]]
) -> CurrentCommits:
    """Find out which outcomes count.

    Args:
        commits: phase → what was found on disk.
        gathers: the phases that begin with a gather.
        retried: phase → positions of roots that are to be done again now, whatever they had come to.
    """
    counting: dict[int, Sequence[Commit]] = {}
    places: dict[int, InputPositions] = {0: InputPositions()}
    superseded: list[Commit] = []
    since: dict[int, int] = {}  # slot of the phase's input → only commits with a higher number know what it holds now
    everything_since = -1
    for phase in range(max(commits, default=-1) + 1):
        if phase in gathers:
            everything_since = max((everything_since, *since.values()))
            places[phase], since = InputPositions(), {}
        found = sorted(commits.get(phase, ()), key=lambda commit: commit.number)
        superseded.extend(commit for commit in found if commit.number < everything_since)
        found = [commit for commit in found if commit.number > everything_since]
        replaced, since_here = _replaced(found, places[phase], since, retried.get(phase, ()))
        counting[phase] = [
            attrs.evolve(commit, replaced=frozenset(replaced.get(commit.number, ()))) for commit in found
        ]
        places[phase + 1] = _behind(places[phase], counting[phase])
        by_origin = zip(places[phase + 1].origins, places[phase + 1].slots, strict=True)
        since = {slot: since_here[origin] for origin, slot in by_origin if origin in since_here}
    return CurrentCommits(counting, places, superseded)


def _behind(before: InputPositions, commits: Sequence[Commit]) -> InputPositions:
    apart = frozenset(position for commit in commits for position in commit.apart)
    return positions_after(before, ranges_in_order(commits), apart)


def _replaced(
    commits: Sequence[Commit], places: InputPositions, since: Mapping[int, int], retried: Collection[int]
) -> tuple[dict[int, set[int]], dict[int, int]]:
    """Return, by commit, the positions whose outcome counts no more, and since when what they come to is known."""
    replaced: dict[int, set[int]] = {}
    newest: dict[int, Commit] = {}
    known_since = dict(since)
    for commit in commits:
        for position in commit.apart:
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
