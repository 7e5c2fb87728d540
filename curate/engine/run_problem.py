"""Why a run that has reached its end has achieved nothing: no record kept, or a stage that failed on most of them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curate.engine.protocol.options import ErrorBudget
from curate.plural import counted

_JUDGED = 3
"""The minimum number of records on which a stage is judged."""


def run_problem(summary: Mapping[str, Any], budget: ErrorBudget, run_dir: Path | None) -> str:
    """Return the problem of a finished run, with its main cause and the command that shows it; "" if nothing is.

    It is counted over the run and not over one attempt. A stage may fail on most records if an explicit
    `max_failure_ratio` allows it.

    Args:
        summary: the content of `summary.json`.
        budget: the error budget of the attempt.
        run_dir: the run directory; None: the run was kept in memory.
    """
    if not summary["records_in"]:
        return "nothing was kept: the input has no records"
    stages: list[Mapping[str, Any]] = list(summary["by_stage"].values())
    if summary["kept"]:
        failing = [stage for stage in stages if _fails_on_most(stage, budget)]
        if not failing:
            return ""
        worst = max(failing, key=lambda stage: stage["quarantined"])
        problem = f"stage {worst['name']} failed on {worst['quarantined']:,} of its {counted(worst['records_in'])}"
        return "\n".join((problem, *_cause(worst, run_dir), *_allowance()))
    worst = max(stages, key=lambda stage: stage["quarantined"] + stage["filtered"])
    verb = "was filtered" if summary["filtered"] == 1 else "were filtered"
    ends = (("quarantined", "failed"), ("filtered", verb))
    shown = [f"{summary[name]:,} {word}" for name, word in ends if summary[name]]
    problem = f"nothing was kept of {counted(summary['records_in'])}: {' and '.join(shown)}; nothing was published"
    return "\n".join((problem, *_cause(worst, run_dir)))


def _fails_on_most(stage: Mapping[str, Any], budget: ErrorBudget) -> bool:
    records, failed = stage["records_in"], stage["quarantined"]
    if records < _JUDGED or failed * 2 <= records:
        return False
    return budget.max_failure_ratio is None or failed > budget.max_failure_ratio * records


def _cause(stage: Mapping[str, Any], run_dir: Path | None) -> tuple[str, ...]:
    """Return the most frequent reason why records left a stage, and the command that shows them."""
    failed = stage["quarantined"] >= stage["filtered"]
    reasons: Mapping[str, Mapping[str, float]] = stage["codes"] if failed else stage["reasons"]
    if not reasons:
        return ()
    reason, counts = max(reasons.items(), key=lambda item: item[1]["records"])
    verb = "failed with" if failed else "did not satisfy"
    cause = f"{counted(int(counts['records']))} {verb} {reason} at {stage['name']}"
    if run_dir is None:
        return (f"{cause}; see RunResult.{'quarantined' if failed else 'filtered'}",)
    place = shlex.quote(str(run_dir))
    if failed:
        return (f"{cause}; this shows them:", f"  curate quarantine show {place} --stage {shlex.quote(stage['name'])}")
    return (f"{cause}; this shows them:", f"  curate report {place}")


def _allowance() -> tuple[str, ...]:
    return ("If that is as it should be, allow it with --max-failure-ratio, such as 0.9.",)
