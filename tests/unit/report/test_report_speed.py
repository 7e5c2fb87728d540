"""Throughput is drawn over the time of work, whatever lay between the lives of a run."""

from __future__ import annotations

from typing import Any

import pytest

from curate.report.figures import throughput
from curate.report.speed import speed_of


def progress(phase: int, records_in: int, elapsed_s: float, **more: Any) -> dict[str, Any]:
    return {
        "event": "progress",
        "phase": phase,
        "records_in": records_in,
        "audio_s": 10.0 * records_in,
        "elapsed_s": elapsed_s,
        **more,
    }


def test_two_lives_are_joined_and_what_an_earlier_life_did_counts_once() -> None:
    speed = speed_of(
        [
            {"event": "run_started"},
            progress(0, 0, 0.0),
            progress(0, 100, 10.0, workers=[2, 1]),
            {"event": "run_started"},
            progress(0, 90, 0.0),  # ten were not committed
            progress(0, 190, 5.0),
            progress(1, 0, 0.0),
            progress(1, 190, 5.0),
        ]
    )
    assert speed.attempts == (10.0,)
    assert speed.phase_s == {0: 15.0, 1: 5.0}
    assert speed.workers == {0: 3, 1: 1}
    assert [point.records_per_s for point in speed.points] == [10.0, 20.0, 38.0]
    assert speed.worked_s == 20.0
    assert speed.rtfx == pytest.approx(2000.0 / 20.0)


def test_time_of_loading_is_shown_as_such_and_counts_for_no_speed() -> None:
    speed = speed_of(
        [
            {"event": "run_started"},
            progress(0, 0, 0.0, ready_s=None),
            progress(0, 0, 40.0, ready_s=40.0),
            progress(0, 100, 50.0, ready_s=40.0),
            {"event": "run_started"},
            progress(0, 100, 0.0, ready_s=None),
            progress(0, 200, 50.0, ready_s=30.0),
            progress(1, 0, 0.0),
            progress(1, 200, 10.0),
        ]
    )
    assert speed.loads == ((0.0, 40.0), (50.0, 80.0))
    assert speed.loading_s == 70.0
    assert speed.worked_s == 110.0
    assert speed.phase_s == {0: 30.0, 1: 10.0}
    assert speed.rtfx == pytest.approx(2000.0 / 40.0)
    assert [(point.at_s, point.records_per_s) for point in speed.points] == [(50.0, 10.0), (100.0, 5.0), (110.0, 20.0)]
    drawn = throughput(speed)
    assert drawn is not None
    assert drawn["loads"] == [{"from": 0.0, "to": 40.0}, {"from": 50.0, "to": 80.0}]
    curve = [(point["at_s"], point["records_per_s"]) for point in drawn["points"]]
    assert curve[:3] == [(40.0, None), (40.0, 10.0), (50.0, 10.0)]
    assert curve[3:6] == [(80.0, None), (80.0, 5.0), (100.0, 5.0)]


def test_a_long_run_has_not_more_points_than_can_be_seen() -> None:
    events = [{"event": "run_started"}, *(progress(0, 7 * second, float(second)) for second in range(5000))]
    speed = speed_of(events)
    assert 200 <= len(speed.points) <= 260
    assert {point.records_per_s for point in speed.points} == {7.0}


def test_no_events_are_no_speed() -> None:
    speed = speed_of([])
    assert (speed.points, speed.worked_s, speed.rtfx) == ((), 0.0, None)
