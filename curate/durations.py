"""The one wording of a length of time: "4.5 s", "2 min", "61.7 h"."""

from __future__ import annotations


def duration_text(duration_s: float) -> str:
    """Return a length of time in the unit in which it is easy to read, with one decimal unless that is 0."""
    if duration_s < 120:
        return f"{_short(duration_s)} s"
    return f"{_short(duration_s / 60)} min" if duration_s < 7200 else f"{_short(duration_s / 3600)} h"


def _short(amount: float) -> str:
    return f"{amount:,.1f}".removesuffix(".0")
