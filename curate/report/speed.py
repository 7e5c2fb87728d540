"""How fast a run went, from its metrics: throughput over the time that was worked, whatever lay between its lives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

_POINTS = 240


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
        lives: where a later life of the run begins, in seconds of work.
        phase_s: phase → how long was worked on it, in all lives.
        workers: phase → how many workers it had, at most; 1 where the executor does not say.
    """

    points: tuple[Point, ...]
    lives: tuple[float, ...]
    phase_s: Mapping[int, float]
    workers: Mapping[int, int]
    worked_s: float
    audio_s: float

    @property
    def rtfx(self) -> float | None:
        return self.audio_s / self.worked_s if self.worked_s > 0 else None


@attrs.define
class _Stretch:
    phase: int
    wall_s: float
    records: int
    audio_s: float


def speed_of(events: Sequence[Mapping[str, Any]]) -> Speed:
    """Return how fast a run went."""
    stretches: list[_Stretch] = []
    lives: list[float] = []
    workers: dict[int, int] = {}
    last: Mapping[str, Any] | None = None
    worked_s = 0.0
    for event in events:
        if event.get("event") == "run_started":
            if last is not None:
                lives.append(worked_s)
            last = None
        if event.get("event") != "progress":
            continue
        phase = int(event["phase"])
        workers[phase] = max(workers.get(phase, 1), sum(event.get("workers") or ()))
        if last is not None and last["phase"] == phase:
            wall_s = max(float(event["elapsed_s"]) - float(last["elapsed_s"]), 0.0)
            worked_s += wall_s
            stretches.append(
                _Stretch(phase, wall_s, event["records_in"] - last["records_in"], event["audio_s"] - last["audio_s"])
            )
        last = event
    phase_s: dict[int, float] = {}
    for stretch in stretches:
        phase_s[stretch.phase] = phase_s.get(stretch.phase, 0.0) + stretch.wall_s
    heard_s = max((sum(s.audio_s for s in stretches if s.phase == phase) for phase in phase_s), default=0.0)
    points = tuple(_points(stretches, worked_s))
    return Speed(points, tuple(lives), phase_s, workers, worked_s, heard_s)


def _points(stretches: Sequence[_Stretch], worked_s: float) -> Iterator[Point]:
    """Join short stretches of a phase, so that there are not more points than can be seen."""
    least_s = worked_s / _POINTS
    at_s, joined = 0.0, _Stretch(-1, 0.0, 0, 0.0)
    for stretch in stretches:
        if joined.phase != stretch.phase:
            if joined.wall_s > 0:
                yield _point(at_s, joined)
            joined = _Stretch(stretch.phase, 0.0, 0, 0.0)
        at_s += stretch.wall_s
        joined.wall_s += stretch.wall_s
        joined.records += stretch.records
        joined.audio_s += stretch.audio_s
        if joined.wall_s >= least_s and joined.wall_s > 0:
            yield _point(at_s, joined)
            joined = _Stretch(stretch.phase, 0.0, 0, 0.0)
    if joined.wall_s > 0:
        yield _point(at_s, joined)


def _point(at_s: float, joined: _Stretch) -> Point:
    return Point(
        round(at_s, 3), joined.phase, round(joined.records / joined.wall_s, 3), round(joined.audio_s / joined.wall_s, 3)
    )
