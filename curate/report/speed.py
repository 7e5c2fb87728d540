"""The speed of a run, from its metrics: throughput over the time of work, whatever lay between its attempts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from curate.monitoring import Rate

_LOADING = -2
"""In place of a phase: workers are set up."""

_LEAST_LOADING_S = 0.5
"""A set-up that took less is not worth showing."""

_POINTS = 240
"""The number of points of the curve, about; shorter stretches are joined."""


@attrs.frozen
class Point:
    """A stretch of a run.

    Args:
        at_s: the end of it, in seconds of work since the run began.
        rtfx: seconds of audio for each second.
    """

    at_s: float
    phase: int
    records_per_s: float
    rtfx: float


@attrs.frozen
class Speed:
    """Throughput of a run.

    Args:
        attempts: where each later attempt begins, in seconds of work.
        phase_s: phase → the time of work, in all attempts, without that of loading.
        workers: phase → the largest number of its workers; 1 where the executor does not report it.
        worked_s: the time of work of all phases, with that of loading.
        audio_s: the audio of the phase that has worked on most.
        loads: where workers were set up, models loaded, from and to; in seconds of work.
    """

    points: tuple[Point, ...]
    attempts: tuple[float, ...]
    phase_s: Mapping[int, float]
    workers: Mapping[int, int]
    worked_s: float
    audio_s: float
    loads: tuple[tuple[float, float], ...] = ()

    @property
    def loading_s(self) -> float:
        return sum(end - begin for begin, end in self.loads)

    @property
    def rtfx(self) -> float | None:
        """Seconds of audio for each second of work, without the time of loading."""
        work_s = self.worked_s - self.loading_s
        return Rate(work_s, audio_s=self.audio_s).rtfx if work_s > 0 else None


def speed_of(events: Iterable[Mapping[str, Any]]) -> Speed:
    """Return the speed of a run from its events."""
    stretches: list[tuple[int, Rate]] = []
    loads: list[tuple[float, float]] = []
    attempts: list[float] = []
    workers: dict[int, int] = {}
    last: tuple[int, Rate] | None = None
    worked_s = 0.0
    for event in events:
        if event.get("event") == "run_started":
            if last is not None:
                attempts.append(worked_s)
            last = None
        if event.get("event") != "progress":
            continue
        phase = int(event["phase"])
        workers[phase] = max(workers.get(phase, 1), sum(event.get("workers") or ()))
        reached = Rate(float(event["elapsed_s"]), event["records_in"], event["audio_s"])
        if last is not None and last[0] == phase:
            stretch = reached - last[1]
            # until then nothing was worked on: the stretch has a part for the set-up, and one for the work
            loading_s = min(max(float(event.get("ready_s") or 0.0) - last[1].elapsed_s, 0.0), stretch.elapsed_s)
            if loading_s >= _LEAST_LOADING_S:
                loads.append((worked_s, worked_s + loading_s))
                stretches.append((_LOADING, Rate(loading_s)))
                stretch = stretch - Rate(loading_s)
                worked_s += loading_s
            worked_s += stretch.elapsed_s
            stretches.append((phase, stretch))
        last = phase, reached
    of_phase: dict[int, Rate] = {}
    for phase, stretch in stretches:
        if phase != _LOADING:
            of_phase[phase] = of_phase.get(phase, Rate()) + stretch
    return Speed(
        tuple(_points(stretches, worked_s)),
        tuple(attempts),
        {phase: rate.elapsed_s for phase, rate in of_phase.items()},
        workers,
        worked_s,
        max((rate.audio_s for rate in of_phase.values()), default=0.0),
        tuple(loads),
    )


def _points(stretches: Sequence[tuple[int, Rate]], worked_s: float) -> Iterator[Point]:
    """Yield a point for each stretch of a phase, short ones joined, so that there are not more than can be seen."""
    least_s = worked_s / _POINTS
    at_s, joined_phase, joined = 0.0, -1, Rate()
    for phase, stretch in stretches:
        if joined_phase != phase:
            if joined.elapsed_s > 0:
                yield _point(at_s, joined_phase, joined)
            joined_phase, joined = phase, Rate()
        at_s += stretch.elapsed_s
        if phase == _LOADING:
            continue  # shown as such, and not as a speed of 0
        joined += stretch
        if joined.elapsed_s >= least_s and joined.elapsed_s > 0:
            yield _point(at_s, phase, joined)
            joined = Rate()
    if joined.elapsed_s > 0:
        yield _point(at_s, joined_phase, joined)


def _point(at_s: float, phase: int, rate: Rate) -> Point:
    return Point(round(at_s, 3), phase, round(rate.records_per_s, 3), round(rate.rtfx, 3))
