"""A rate is an amount of work and its time."""

from __future__ import annotations

from curate.monitoring import Rate


def test_rate_is_work_per_time() -> None:
    rate = Rate(elapsed_s=4.0, records=10, audio_s=60.0)
    assert (rate.records_per_s, rate.rtfx, rate.per_s(2)) == (2.5, 15.0, 0.5)


def test_rate_without_time_is_zero_and_has_no_estimate() -> None:
    rate = Rate(0.0, 10, 60.0)
    assert (rate.records_per_s, rate.rtfx, rate.left_s(20, 10)) == (0.0, 0.0, None)


def test_rates_add_up_and_differences_undo_it() -> None:
    one, other = Rate(1.0, 2, 3.0), Rate(4.0, 5, 6.0)
    assert one + other == Rate(5.0, 7, 9.0)
    assert (one + other) - one == other
    assert (one - other).elapsed_s == 0.0  # a clock that went back


def test_time_left_follows_from_what_is_left() -> None:
    rate = Rate(10.0, 50)
    assert (rate.left_s(160, 60), rate.left_s(60, 60), rate.left_s(10, 60), rate.left_s(None, 60)) == (
        20.0,
        0.0,
        0.0,
        None,
    )
