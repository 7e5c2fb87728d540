"""What observers of a run are told, through the `curate_on_…` hooks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs


@attrs.frozen
class RunStarted:
    """A run begins, or goes on: `done` records of the first phase were finished by an earlier life of it."""

    name: str
    run_dir: Path | None
    stages: tuple[str, ...]
    done: int
    executor: str = ""


@attrs.frozen
class RunProgress:
    """A phase begins, has come further, or has ended. Counts are of this phase in all lives of the run.

    Args:
        elapsed_s: since the phase began in this life of the run; speeds are differences to the phase's first event.
        came: how many records have come to each of `stages`, of those that are settled.
        workers: how many workers each hop of the phase has now.
        ended: whether this is the phase's last event.
        total: how many records the phase will work on, if that is known.
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


@attrs.frozen
class UnitCommitted:
    """A commit unit is on disk and will not be worked on again."""

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
    """A run has stopped before its end, and can go on in a later life.

    Args:
        interrupted: whether somebody asked for it, by Ctrl-C or SIGTERM.
        error: what stopped it, on one line.
    """

    run_dir: Path | None
    interrupted: bool
    error: str


@attrs.frozen
class RunFinished:
    """A run has reached its end; `summary` is what `summary.json` holds."""

    run_dir: Path | None
    summary: Mapping[str, Any]
