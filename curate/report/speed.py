"""The speed of a run, from its metrics: throughput over the time of work, whatever lay between its attempts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from curate.monitoring import Rate

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
        phase_s: phase → the time of work, in all attempts.
        workers: phase → the largest number of its workers; 1 where the executor does not report it.
        audio_s: the audio of the phase that has worked on most.
    """

    points: tuple[Point, ...]
    attempts: tuple[float, ...]
    phase_s: Mapping[int, float]
    workers: Mapping[int, int]
    worked_s: float
    audio_s: float

    @property
    def rtfx(self) -> float | None:
        return Rate(self.worked_s, audio_s=self.audio_s).rtfx if self.worked_s > 0 else None


def speed_of(events: Iterable[Mapping[str, Any]]) -> Speed:
    """Return the speed of a run from its events."""
    stretches: list[tuple[int, Rate]] = []
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
            worked_s += stretch.elapsed_s
            stretches.append((phase, stretch))
        last = phase, reached
    of_phase: dict[int, Rate] = {}
    for phase, stretch in stretches:
        of_phase[phase] = of_phase.get(phase, Rate()) + stretch
    return Speed(
        tuple(_points(stretches, worked_s)),
        tuple(attempts),
        {phase: rate.elapsed_s for phase, rate in of_phase.items()},
        workers,
        worked_s,
        max((rate.audio_s for rate in of_phase.values()), default=0.0),
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
        joined += stretch
        if joined.elapsed_s >= least_s and joined.elapsed_s > 0:
            yield _point(at_s, phase, joined)
            joined = Rate()
    if joined.elapsed_s > 0:
        yield _point(at_s, joined_phase, joined)


def _point(at_s: float, phase: int, rate: Rate) -> Point:
    return Point(round(at_s, 3), phase, round(rate.records_per_s, 3), round(rate.rtfx, 3))
