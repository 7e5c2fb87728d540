"""The summary of a run: counts, audio hours, stages and failures, added up from its commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from loguru import logger

from curate.engine.accounting.counts import RecordCounts
from curate.engine.accounting.reasons import Reasons, failure_kinds
from curate.engine.durability.commit import Commit
from curate.engine.durability.stage_outcomes import stage_outcomes
from curate.engine.durability.store import Store
from curate.engine.protocol.messages import AUDIO_MEASURES
from curate.engine.protocol.run_status import RunStatus
from curate.errors import AccountingError
from curate.monitoring import add_measures
from curate.plan import Phase, Plan, PlannedStage
from curate.stage import ProcessingStage, Source, Stage


@attrs.frozen
class StageSummary:
    """The records that reached a stage, and their outcomes there.

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
    phases = [check_phase(phase, store) for phase in plan.phases]
    total = RecordCounts()
    for books in phases:
        total.add(books)
    first, last = phases[0], phases[-1]
    total.records_in, total.in_ms, total.kept, total.kept_ms = first.records_in, first.in_ms, last.kept, last.kept_ms
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
    if len(done) != books.records_in + books.joins or not store.places(phase.number).holds_exactly(done):
        raise AccountingError(
            f"the commits of phase {phase.number} hold {books.records_in} records, at {len(done)} of {done.end} "
            "positions: some are lost or there twice; the run directory is not to be trusted"
        )
    return books


def may_measure(phase: Phase) -> bool:
    """Return whether the phase may change `duration`: a stage declares it, or declares no columns, or processes audio,
    and the engine writes the decoded length.
    """
    if any(planned.stage.corrects_duration for hop in phase.hops for planned in hop.stages):
        return True
    written = [planned.stage.writes() for hop in phase.hops for planned in hop.stages]
    gathered = () if phase.gather is None else phase.gather.stage.writes() or ()
    return "duration" in gathered or any(columns is None or "duration" in columns for columns in written)


def stage_summaries(plan: Plan, store: Store) -> list[StageSummary]:
    """Return the outcome of the records at each stage; exact, because it is counted from the commits."""
    summaries: list[StageSummary] = []
    for phase in plan.phases:
        commits = store.commits(phase.number)
        stages = list(phase.stages())
        outcomes = stage_outcomes((planned.name for planned in stages), commits)
        for planned, outcome in zip(stages, outcomes, strict=True):
            flow = outcome.flow
            summaries.append(
                StageSummary(
                    flow.name,
                    flow.records_in,
                    flow.records_out,
                    filtered=flow.filtered,
                    quarantined=flow.quarantined,
                    split=flow.split,
                    children=flow.children,
                    busy_s=round(outcome.busy_s, 3),
                    reasons=_in_hours(outcome.reasons),
                    codes=_in_hours(outcome.codes),
                    performance=_performance(planned, commits),
                )
            )
    return summaries


def outcomes_before(plan: Plan, store: Store, phase: int) -> Mapping[str, Any]:
    """Return the outcomes of the records up to the end of a phase, for the files that are published there."""
    shown = attrs.evolve(plan, phases=tuple(each for each in plan.phases if each.number <= phase))
    summaries = stage_summaries(shown, store)
    books = [commit.books for commit in store.commits(plan.phases[0].number)]
    return {
        "records_in": sum(each.records_in for each in books),
        "hours_in": round(sum(each.in_ms for each in books) / 3_600_000, 6),
        "filtered": {each.name: dict(each.reasons) for each in summaries if each.reasons},
        "quarantined": {each.name: dict(each.codes) for each in summaries if each.codes},
    }


def _performance(planned: PlannedStage[Stage], commits: Sequence[Commit]) -> Mapping[str, Any]:
    """Return a stage's figures; if it cannot say them, what it measured, for the work is done."""
    if isinstance(planned.stage, Source):
        return planned.stage.describe_reading()
    measures = add_measures(*(commit.measures.get(planned.name, {}) for commit in commits))
    if not measures or not isinstance(planned.stage, ProcessingStage):
        return {}
    try:
        return planned.stage.describe_measures(measures)
    except Exception as error:  # noqa: BLE001 (third-party code, about work that is done)
        logger.opt(exception=error).warning("stage {!r} raised in describe_measures()", planned.name)
        return measures


def audio_measures(plan: Plan, store: Store) -> dict[str, dict[str, Any]]:
    """Return the audio measures of each stage group, by the names of its stages joined by `+`: the number of `decodes`,
    of `duration_mismatches` with the last few as `mismatch_examples`, of `means_replaced` by the loudest channel, and
    of records with `unlike_channels` whose mean was used.
    """
    parts = (
        {name.removeprefix(AUDIO_MEASURES): measures}
        for phase in plan.phases
        for commit in store.commits(phase.number)
        for name, measures in commit.measures.items()
        if name.startswith(AUDIO_MEASURES)
    )
    return add_measures(*parts)


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
    """Return the content of `summary.json`; `wall_s` and `worked_s`, of audio, are of this attempt alone."""
    books = run_counts(plan, store)
    return {
        "status": RunStatus.FINISHED.value,
        "name": plan.name,
        "executor": executor,
        "records_in": books.records_in,
        "children": books.children,
        "kept": books.kept,
        "filtered": books.filtered,
        "quarantined": books.quarantined,
        "split_parents": books.split,
        "joined_parts": books.joined,
        "joins": books.joins,
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
                ("joined_parts", books.joined_ms),
                ("joins", books.joins_ms),
            )
        },
        "failures": failure_codes(plan, store),
        "audio": audio_measures(plan, store),
        "by_stage": {stage.name: attrs.asdict(stage) for stage in stage_summaries(plan, store)},
        "outputs": [str(path) for path in outputs],
        "fingerprint": plan.fingerprint,
        "audio_s": round((books.in_ms + books.measured_ms) / 1000, 3),
        "wall_s": round(wall_s, 3),
        "rtfx": round(worked_s / wall_s, 3),
    }
