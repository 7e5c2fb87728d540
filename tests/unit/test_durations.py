"""The one wording of a length of time."""

from __future__ import annotations

import pytest

from curate.durations import duration_text


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [
        (0, "0 s"),
        (4.5, "4.5 s"),
        (80.0, "80 s"),
        (119.96, "120 s"),
        (120, "2 min"),
        (370, "6.2 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (222_000, "61.7 h"),
        (7_200_000, "2,000 h"),
    ],
)
def test_duration_text_has_one_decimal_and_the_unit_that_suits_it(duration_s: float, text: str) -> None:
    assert duration_text(duration_s) == text
