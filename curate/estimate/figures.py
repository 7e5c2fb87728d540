"""The figures of a run that an estimate is made from: work, records and audio of each stage and phase."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs

from curate.engine import RunReader
from curate.errors import UsageError


@attrs.frozen
class StageFigures:
    """The work of one stage in a run.

    Args:
        busy_s: the time that it worked, in seconds over all its workers, without loading its model.
        records_in: the records that reached it.
    """

    busy_s: float
    records_in: int


@attrs.frozen
class PhaseFigures:
    """One phase of a run.

    Args:
        records_in: the finished records of its input.
        kept: the records that it has handed on.
        audio_s: the audio of its input, by what was measured where the manifest did not know it.
        wall_s: the time from its beginning to its end, in the attempt that ended it; None: it has not ended.
        loading_s: the part of `wall_s` before each of its hops had a worker with a loaded model.
        workers: the number of workers of each hop.
        publishing_s: the time of its writers.
    """

    records_in: int
    kept: int
    audio_s: float
    wall_s: float | None
    loading_s: float
    workers: tuple[int, ...]
    publishing_s: float


@attrs.frozen
class RunFigures:
    """The figures of one run, which need not have reached its end.

    Args:
        stages: by name.
        phases: in order, up to the last that was begun.
        layout: the names of the stages of all phases.
        size: the amount of its input, in the unit of `InputSize`; set for a sample, whose records are known.
    """

    stages: Mapping[str, StageFigures]
    phases: tuple[PhaseFigures, ...]
    layout: Sequence[Sequence[str]]
    size: float = 0.0

    @property
    def records(self) -> int:
        """The finished records of the source."""
        return self.phases[0].records_in if self.phases else 0

    @property
    def work_s(self) -> float:
        """The time that all stages worked, in seconds over all workers."""
        return sum(stage.busy_s for stage in self.stages.values())

    @property
    def wall_s(self) -> float:
        """The time of the phases that have ended, with their writers and without loading."""
        return sum((phase.wall_s or 0.0) - phase.loading_s + phase.publishing_s for phase in self.phases)


def read_figures(run_dir: Path) -> RunFigures:
    """Return the figures of the run in a directory.

    Raises:
        UsageError: no record of it is finished.
        RunDirectoryError: there is no run.
    """
    run = RunReader(run_dir)
    times = _times(run.events(), len(run.layout))
    phases: list[PhaseFigures] = []
    stages: dict[str, StageFigures] = {}
    for number in range(len(run.layout)):
        books, is_complete = run.counts(number), run.is_complete(number)
        if not books.records_in and not is_complete:
            break
        measured = times.get(number, _Times()) if is_complete else _Times()
        phases.append(
            PhaseFigures(
                records_in=books.records_in,
                kept=books.kept,
                audio_s=(books.in_ms + books.measured_ms) / 1000,
                wall_s=measured.wall_s,
                loading_s=measured.loading_s,
                workers=measured.workers,
                publishing_s=measured.publishing_s,
            )
        )
        for outcome in run.stages(number):
            stages[outcome.flow.name] = StageFigures(outcome.busy_s, outcome.flow.records_in)
    if not phases or not phases[0].records_in:
        raise UsageError(f"{run_dir}: no record of this run is finished, so it has no figures; let it run for longer")
    return RunFigures(stages, tuple(phases), run.layout)


@attrs.frozen
class _Times:
    wall_s: float | None = None
    loading_s: float = 0.0
    workers: tuple[int, ...] = ()
    publishing_s: float = 0.0


def _times(events: Iterable[Mapping[str, Any]], phases: int) -> dict[int, _Times]:
    """Return the times of the phases that one attempt has worked on from the beginning to the end.

    A phase's writers work between its last event and the event behind it.
    """
    found: dict[int, _Times] = {}
    began: Mapping[str, Any] = {}
    for event, following in pairwise([*events, {}]):
        if event.get("event") != "progress":
            continue
        phase = int(event["phase"])
        if "stages" in event:
            began = event
        if event.get("ended") and began.get("phase") == phase and not began.get("records_in"):
            found[phase] = _Times(
                wall_s=float(event["elapsed_s"]),
                loading_s=float(event.get("ready_s") or 0.0),
                workers=tuple(event.get("workers") or ()),
                publishing_s=max(0.0, float(following.get("at", event["at"])) - float(event["at"])),
            )
    return found
