"""What a run came to: counts, audio hours, stages and failures, added up from its commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from loguru import logger

from curate.engine.accounting.counts import RecordCounts
from curate.engine.accounting.reasons import Reasons, add_reasons, failure_kinds
from curate.engine.durability.commit import Commit
from curate.engine.durability.store import Store
from curate.errors import AccountingError
from curate.monitoring import add_measures
from curate.plan import Phase, Plan, PlannedStage
from curate.stage import ProcessingStage


@attrs.frozen
class StageSummary:
    """What came to a stage, and what became of it there.

    Args:
        busy_s: the time it worked, in all its workers.
        reasons: why it filtered records, clause → `records` and `audio_hours`, the most frequent first.
        codes: why records went to quarantine there, in the same way.
        performance: what it measured of its work, as `ProcessingStage.describe_measures` says it.
    """

    name: str
    records_in: int
    records_out: int
    filtered: int
    quarantined: int
    split: int
    children: int
    busy_s: float
    reasons: Mapping[str, Mapping[str, float]]
    codes: Mapping[str, Mapping[str, float]]
    performance: Mapping[str, Any]


def run_counts(plan: Plan, store: Store) -> RecordCounts:
    """Return the books of the whole run: in from the first phase, kept from the last.

    Raises:
        AccountingError: a phase's books do not balance, or a phase did not work on all that the one before has kept.
    """
    total = RecordCounts()
    for phase in plan.phases:
        books = check_phase(phase, store)
        if phase.number == 0:
            total = books
            continue
        total = RecordCounts(
            records_in=total.records_in,
            children=total.children + books.children,
            kept=books.kept,
            filtered=total.filtered + books.filtered,
            quarantined=total.quarantined + books.quarantined,
            split=total.split + books.split,
            in_ms=total.in_ms,
            children_ms=total.children_ms + books.children_ms,
            kept_ms=books.kept_ms,
            filtered_ms=total.filtered_ms + books.filtered_ms,
            quarantined_ms=total.quarantined_ms + books.quarantined_ms,
            split_ms=total.split_ms + books.split_ms,
        )
    total.check(measures_audio=any(may_measure(phase) for phase in plan.phases))
    return total


def check_phase(phase: Phase, store: Store) -> RecordCounts:
    """Return the books of a phase that has been worked on to its end.

    Raises:
        AccountingError: they do not balance, or the commits do not hold every record of its input exactly once.
    """
    books = RecordCounts()
    for commit in store.commits(phase.number):
        books.add(commit.books)
    books.check(measures_audio=may_measure(phase))
    done = store.done(phase.number)
    if len(done) != books.records_in or not store.places(phase.number).holds_exactly(done):
        raise AccountingError(
            f"the commits of phase {phase.number} hold {books.records_in} records, at {len(done)} of {done.end} "
            "positions: some are lost or there twice; the run directory is not to be trusted"
        )
    return books


def may_measure(phase: Phase) -> bool:
    """Return whether a stage of the phase says that it writes `duration`, or does not say what it writes."""
    written = [planned.stage.writes() for hop in phase.hops for planned in hop.stages]
    gathered = () if phase.gather is None else phase.gather.stage.writes() or ()
    return "duration" in gathered or any(columns is None or "duration" in columns for columns in written)


def stage_summaries(plan: Plan, store: Store) -> list[StageSummary]:
    """Follow the records through the stages; exact, because it is counted from what is committed."""
    summaries: list[StageSummary] = []
    for phase in plan.phases:
        commits = store.commits(phase.number)
        records = sum(commit.books.records_in for commit in commits)
        for planned in phase.stages():
            counts = {"filtered": 0, "quarantined": 0, "split": 0, "children": 0}
            for commit in commits:
                for what, amount in commit.stages.get(planned.name, {}).items():
                    counts[what] += amount
            left = records - counts["filtered"] - counts["quarantined"] - counts["split"] + counts["children"]
            busy_s = sum(commit.busy_s.get(planned.name, 0.0) for commit in commits)
            summaries.append(
                StageSummary(
                    planned.name,
                    records,
                    left,
                    busy_s=round(busy_s, 3),
                    reasons=_in_hours(add_reasons(commit.reasons.get(planned.name, {}) for commit in commits)),
                    codes=_in_hours(add_reasons(commit.stage_codes.get(planned.name, {}) for commit in commits)),
                    performance=_performance(planned, commits),
                    **counts,
                )
            )
            records = left
    return summaries


def _performance(planned: PlannedStage, commits: Sequence[Commit]) -> Mapping[str, Any]:
    """Return a stage's figures; if it cannot say them, what it measured, for the work is done."""
    measures = add_measures(*(commit.measures.get(planned.name, {}) for commit in commits))
    if not measures or not isinstance(planned.stage, ProcessingStage):
        return {}
    try:
        return planned.stage.describe_measures(measures)
    except Exception as error:  # noqa: BLE001 (a stranger's code, about work that is done)
        logger.opt(exception=error).warning("stage {!r} raised in describe_measures()", planned.name)
        return measures


def _in_hours(reasons: Reasons) -> dict[str, dict[str, float]]:
    return {
        reason: {"records": records, "audio_hours": round(ms / 3_600_000, 6)}
        for reason, (records, ms) in reasons.items()
    }


def failure_codes(plan: Plan, store: Store) -> dict[str, int]:
    """Return how many records went to quarantine with each code, the most frequent first."""
    codes: dict[str, int] = {}
    for phase in plan.phases:
        for commit in store.commits(phase.number):
            for code, count in commit.codes.items():
                codes[code] = codes.get(code, 0) + count
    return dict(sorted(codes.items(), key=lambda item: (-item[1], item[0])))


def top_failures(store: Store, most: int = 3) -> str:
    """Return the most frequent kinds of failure, one a line: how many, code, stage, and the last example."""
    kinds = failure_kinds(note for _, note in store.failures())
    return "\n".join(
        f"{kind['records']:>8,}  {kind['code']} at {kind['stage']}, such as {kind['example']}: {kind['message']}"
        for kind in kinds[:most]
    )


def summarise(
    plan: Plan, store: Store, outputs: Sequence[Path], *, executor: str, wall_s: float, worked_s: float
) -> Mapping[str, Any]:
    """Return what `summary.json` holds; `wall_s` and `worked_s`, of audio, are of this life of the run alone."""
    books = run_counts(plan, store)
    return {
        "status": "done",
        "name": plan.name,
        "executor": executor,
        "records_in": books.records_in,
        "children": books.children,
        "kept": books.kept,
        "filtered": books.filtered,
        "quarantined": books.quarantined,
        "split_parents": books.split,
        "audio_hours": {
            name: round(ms / 3_600_000, 6)
            for name, ms in (
                ("in", books.in_ms),
                ("measured", books.measured_ms),
                ("children", books.children_ms),
                ("kept", books.kept_ms),
                ("filtered", books.filtered_ms),
                ("quarantined", books.quarantined_ms),
                ("split_parents", books.split_ms),
            )
        },
        "failures": failure_codes(plan, store),
        "by_stage": {stage.name: attrs.asdict(stage) for stage in stage_summaries(plan, store)},
        "outputs": [str(path) for path in outputs],
        "fingerprint": plan.fingerprint,
        "audio_s": round((books.in_ms + books.measured_ms) / 1000, 3),
        "wall_s": round(wall_s, 3),
        "rtfx": round(worked_s / wall_s, 3),
    }
