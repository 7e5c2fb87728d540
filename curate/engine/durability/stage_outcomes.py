"""What became of the records at each stage, added up from commits: exact at any moment of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from curate.engine.accounting.counts import RecordCounts, StageFlow, follow_stages
from curate.engine.accounting.reasons import Reasons, add_reasons
from curate.engine.durability.commit import Commit


@attrs.frozen
class StageOutcome:
    """The outcome of the records at a stage.

    Args:
        flow: how many came, and what became of them.
        busy_s: the time that the stage has worked, in all its workers.
        reasons: why it filtered, the most frequent reason first.
        codes: with which codes records failed there, in the same way.
    """

    flow: StageFlow
    busy_s: float
    reasons: Reasons
    codes: Reasons


def stage_outcomes(stages: Iterable[str], commits: Sequence[Commit]) -> list[StageOutcome]:
    """Return the outcomes at the stages of a phase.

    Args:
        stages: their names, in order.
        commits: the phase's commits that count.
    """
    counts = RecordCounts()
    for commit in commits:
        counts.add(commit.books)
    flows = follow_stages(stages, counts.records_in, (commit.stages for commit in commits))
    return [
        StageOutcome(
            flow,
            sum(commit.busy_s.get(flow.name, 0.0) for commit in commits),
            add_reasons(commit.reasons.get(flow.name, {}) for commit in commits),
            add_reasons(commit.stage_codes.get(flow.name, {}) for commit in commits),
        )
        for flow in flows
    ]
