"""The events of a run, which observers receive through the `curate_on_…` hooks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

EVENTS_FILE = Path("metrics") / "events.jsonl"
"""Where an observer keeps the events of all attempts of a run, in its directory."""


@attrs.frozen
class RunStarted:
    """A run begins or resumes: `done` records of the first phase were finished by earlier attempts."""

    name: str
    run_dir: Path | None
    stages: tuple[str, ...]
    done: int
    executor: str = ""


@attrs.frozen
class RunProgress:
    """A phase begins, has progressed, or has ended. Counts are of this phase in all attempts of the run.

    Args:
        elapsed_s: since the phase began in this attempt; speeds are differences to the phase's first event.
        came: the number of finished records that reached each of `stages`.
        workers: the current number of workers of each hop of the phase.
        ready_s: when each hop had a worker that was set up, its model loaded; counted as `elapsed_s` is. None: not yet,
            or the phase has no workers.
        ended: whether this is the phase's last event.
        total: the number of records that the phase will process, if known.
        at_work: the stages of `stages` that work at present, as far as the workers report it.
    """

    phase: int
    stages: tuple[str, ...]
    records_in: int
    kept: int
    filtered: int
    quarantined: int
    audio_s: float
    elapsed_s: float
    came: tuple[int, ...] = ()
    workers: tuple[int, ...] = ()
    ended: bool = False
    total: int | None = None
    ready_s: float | None = None
    at_work: tuple[str, ...] = ()


@attrs.frozen
class UnitCommitted:
    """A commit unit is on disk and will not be processed again."""

    phase: int
    unit: str
    records_in: int
    kept: int
    filtered: int
    quarantined: int


@attrs.frozen
class RecordQuarantined:
    """A record went to quarantine."""

    id: str
    stage: str
    code: str
    message: str


@attrs.frozen
class RunStopped:
    """A run has stopped before its end, and can be resumed by another attempt.

    Args:
        interrupted: whether it was requested, by Ctrl-C or SIGTERM.
        error: the cause, on one line.
    """

    run_dir: Path | None
    interrupted: bool
    error: str


@attrs.frozen
class RunFinished:
    """A run has finished; `summary` is the content of `summary.json`."""

    run_dir: Path | None
    summary: Mapping[str, Any]
