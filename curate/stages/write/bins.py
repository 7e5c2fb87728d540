"""Borders of buckets for batching by length, estimated from the durations, and tokens, of a whole data set."""

from __future__ import annotations

from collections.abc import Mapping

_STEPS_PER_S = 100
"""Durations are counted in steps of 10 ms, as `tallies.steps_of` gives them."""


def duration_bins(durations: Mapping[int, int], bins: int) -> list[float]:
    """Return the upper borders of all bins but the last, so that each holds about as much audio, in seconds.

    Args:
        durations: a length in steps of 10 ms → how many records have it.
        bins: how many there are at most.
    """
    total = sum(step * count for step, count in durations.items())
    passed, filled = 0, 0
    borders: list[int] = []
    for step in sorted(durations):
        passed += step * durations[step]
        if passed * bins >= total * (filled + 1):  # a frequent length may fill several bins, which become one
            borders.append(step)
            filled = passed * bins // max(1, total)
    longest = max(durations, default=0)
    return [border / _STEPS_PER_S for border in borders if border < longest]


def token_bins(lengths: Mapping[tuple[int, int], int], bins: int, parts: int) -> list[list[float]]:
    """Return the upper borders of bins in two dimensions: of durations in seconds, and within each, of tokens.

    Args:
        lengths: a length in steps of 10 ms and a number of tokens → how many records have them.
        bins: how many of durations, at most.
        parts: how many of tokens in each of these, at most.
    """
    durations: dict[int, int] = {}
    for (step, _), count in lengths.items():
        durations[step] = durations.get(step, 0) + count
    borders = [round(border * _STEPS_PER_S) for border in duration_bins(durations, bins)]
    borders.append(max(durations, default=0))
    found: list[list[float]] = []
    below = -1
    for border in borders:
        tokens: dict[int, int] = {}
        for (step, number), count in lengths.items():
            if below < step <= border:
                tokens[number] = tokens.get(number, 0) + count
        below = border
        limits = [round(limit * _STEPS_PER_S) for limit in duration_bins(tokens, parts)]
        found += [[border / _STEPS_PER_S, limit] for limit in (*limits, max(tokens, default=0))]
    return found
