"""The speeds of stages that `curate bench batch-size` has measured, from its history."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from curate.bench import BatchSizeReport, Trial
from curate.errors import UsageError
from curate.plan import Plan
from curate.stage import ProcessingStage


def measured_speeds(history: Path, plan: Plan) -> dict[str, float]:
    """Return stage → seconds of audio in a second of one worker, as the stage was last measured with its settings.

    Args:
        history: the file that `curate bench` appends to.
        plan: the plan, with the settings that count.

    Raises:
        UsageError: the file does not exist, or no stage of the plan was measured as it is set.
    """
    if not history.is_file():
        raise UsageError(f"--history {history} does not exist; `curate bench batch-size` writes one")
    stages = {planned.name: planned.stage for planned in plan.stages if isinstance(planned.stage, ProcessingStage)}
    speeds: dict[str, float] = {}
    measured: set[str] = set()
    for report in _reports(history, plan.name):
        measured.add(report.stage)
        stage = stages.get(report.stage)
        found = None if stage is None else next((each for each in report.trials if _is_set_so(stage, each)), None)
        if found is not None and found.rtfx:
            speeds[report.stage] = found.rtfx / found.replicas
    if not speeds:
        names = f"; it has {', '.join(sorted(measured))} with other settings" if measured else ""
        raise UsageError(f"--history {history}: no stage was measured with the settings of this pipeline{names}")
    return speeds


def _is_set_so(stage: ProcessingStage, trial: Trial) -> bool:
    return not trial.idle and all(getattr(stage, name, None) == value for name, value in trial.setting.items())


def _reports(history: Path, pipeline: str) -> Iterator[BatchSizeReport]:
    for line in history.read_text(encoding="utf-8").splitlines():
        try:
            described: Mapping[str, Any] = json.loads(line)
            if described["pipeline"] == pipeline:
                yield BatchSizeReport.from_dict(described)
        except (ValueError, TypeError, KeyError):  # torn off, of another version, or of `curate bench approaches`
            continue
