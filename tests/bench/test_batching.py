"""How much padding a plan has, against known batchers and the bound: counts and ratios, never absolute seconds.

`make bench` prints the tables. Lengths are synthetic and seeded, so the figures are the same everywhere; only the
column of items per second is the machine's.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache

import pytest
from seeded_durations import seeded_durations

from curate.batching import (
    BucketBatcher,
    CostModel,
    DurationBatcher,
    LengthBatcher,
    LengthWindows,
    MemoryBatcher,
    Score,
    StaticBatcher,
    score,
)

HEADINGS = ("method", "batches", "to bound", "waste %", "fill %", "over", "lost", "twice", "items/s")


@cache
def lengths(shape: str) -> list[float]:
    return seeded_durations(shape)


@cache
def bound(shape: str, max_batch_s: float) -> int:
    """Return the fewest batches that are never over the budget: everything sorted, cut from the longest."""
    durations = sorted(lengths(shape), reverse=True)
    batches = first = 0
    while first < len(durations):
        first += max(1, int(max_batch_s / durations[first] + 1e-9))
        batches += 1
    return batches


def measure(shape: str, max_batch_s: float, plan: Callable[[list[float]], Iterable[list[int]]]) -> tuple[Score, float]:
    """Return a plan's figures, and items per second."""
    started = time.perf_counter()
    batches = list(plan(lengths(shape)))
    elapsed = time.perf_counter() - started
    return score(batches, lengths(shape), max_batch_s), len(lengths(shape)) / elapsed


def row(name: str, figures: Score, items_per_s: float, fewest: int) -> tuple[str, ...]:
    return (
        name,
        str(figures.batches),
        f"{100 * (figures.batches / fewest - 1):+.2f} %",
        f"{100 * figures.waste:.2f}",
        f"{100 * figures.fill:.2f}",
        str(figures.over_budget),
        str(figures.lost),
        str(figures.duplicated),
        f"{items_per_s / 1000:.0f} k",
    )


def show(title: str, rows: list[tuple[str, ...]], headings: tuple[str, ...] = HEADINGS) -> None:
    widths = [max(len(line[column]) for line in [headings, *rows]) for column in range(len(headings))]
    print(f"\n\n{title}")
    for line in [headings, tuple("-" * width for width in widths), *rows]:
        print(
            "  ".join(
                cell.ljust(width) if not column else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
        )


def through_windows(max_batch_s: float, records: int) -> Callable[[list[float]], Iterator[list[int]]]:
    """Plan as a stage does: each window on its own, windows cut as `LengthWindows` cuts them for any budget."""

    def plan(durations: list[float]) -> Iterator[list[int]]:
        batcher = LengthBatcher(max_batch_s, window=records)
        for window in LengthWindows(records).plan(durations):
            for batch in batcher.plan([durations[index] for index in window]):
                yield [window[index] for index in batch]

    return plan


def in_arrival_order(max_batch_s: float, records: int) -> Callable[[list[float]], Iterator[list[int]]]:
    def plan(durations: list[float]) -> Iterator[list[int]]:
        batcher = LengthBatcher(max_batch_s, window=records)
        for first in range(0, len(durations), records):
            for batch in batcher.plan(durations[first : first + records]):
                yield [first + index for index in batch]

    return plan


def lhotse_sampler(max_batch_s: float, window: int) -> Callable[[list[float]], Iterator[list[int]]]:
    """Make the cuts beforehand, so that planning alone is measured."""
    lhotse = pytest.importorskip("lhotse", reason="needs lhotse: make .venv/.dev-all")
    from lhotse.dataset import DynamicBucketingSampler

    cuts = lhotse.CutSet.from_cuts(
        lhotse.MonoCut(id=str(index), start=0.0, duration=length_s, channel=0)
        for index, length_s in enumerate(lengths("tail"))
    ).to_eager()

    def plan(durations: list[float]) -> Iterator[list[int]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sampler = DynamicBucketingSampler(
                cuts, max_duration=max_batch_s, num_buckets=30, shuffle=False, drop_last=False, buffer_size=window
            )
        for batch in sampler:
            yield [int(cut.id) for cut in batch]

    return plan


def test_padding_against_known_batchers_and_the_bound() -> None:
    fewest = bound("tail", 200.0)
    bucket = BucketBatcher(max_batch_s=200.0, max_s=40.0, min_s=0.3)
    plans = {
        "fixed 16, arrival order": StaticBatcher(16).plan,
        "fixed 5, always safe": StaticBatcher(5).plan,
        "sum of durations, bounded": DurationBatcher(200.0).plan,
        "fairseq2 buckets": bucket.plan,
        "fairseq2 buckets, multiples of 8": BucketBatcher(max_batch_s=200.0, max_s=40.0, multiple_of=8).plan,
        "length, windows in arrival order": in_arrival_order(200.0, 8192),
        "length, through LengthWindows": through_windows(200.0, 8192),
        "length": LengthBatcher(200.0).plan,
    }
    figures = {name: measure("tail", 200.0, plan) for name, plan in plans.items()}
    rows = [row(name, *found, fewest) for name, found in figures.items()]
    show(f"tail, 100,000 lengths, 200 padded seconds, window 8192; bound {fewest} batches", rows)
    ours = figures["length"][0]
    assert ours.padded_s * 3 < figures["fixed 16, arrival order"][0].padded_s
    assert ours.waste < figures["fairseq2 buckets"][0].waste / 4


@pytest.mark.parametrize("way", ["one stream", "through windows"])
@pytest.mark.parametrize(
    ("shape", "max_batch_s", "window", "waste", "fill", "over_bound"),
    [
        ("tail", 200.0, 8192, 0.006, 0.965, 0.01),
        ("cv", 200.0, 8192, 0.003, 0.965, 0.01),
        ("tail", 1600.0, 32768, 0.012, 0.965, 0.01),
        ("libri", 1575.0, 32768, 0.003, 0.965, 0.01),
    ],
)
def test_a_plan_by_length_is_as_good_as_promised(
    shape: str, max_batch_s: float, window: int, waste: float, fill: float, over_bound: float, way: str
) -> None:
    plan = (
        LengthBatcher(max_batch_s, window=window).plan if way == "one stream" else through_windows(max_batch_s, window)
    )
    figures, items_per_s = measure(shape, max_batch_s, plan)
    fewest = bound(shape, max_batch_s)
    show(f"{shape}, {max_batch_s:g} s, window {window}, {way}", [row("length", figures, items_per_s, fewest)])
    assert (figures.over_budget, figures.oversized, figures.lost, figures.duplicated) == (0, 0, 0, 0)
    assert figures.waste <= waste
    assert figures.fill >= fill
    assert figures.batches <= fewest * (1 + over_bound)


@pytest.mark.bench
def test_planning_is_faster_than_lhotse_and_wastes_less() -> None:
    plans = {"lhotse, 30 buckets": lhotse_sampler(200.0, 8192), "length": LengthBatcher(200.0).plan}
    figures: dict[str, tuple[Score, float]] = {}
    for name, plan in plans.items():
        figures[name] = max((measure("tail", 200.0, plan) for _ in range(2)), key=lambda found: found[1])
    fewest = bound("tail", 200.0)
    show("tail, 200 s, window 8192, best of 2", [row(name, *found, fewest) for name, found in figures.items()])
    theirs, ours = figures["lhotse, 30 buckets"], figures["length"]
    assert ours[1] >= theirs[1]
    assert ours[0].waste < theirs[0].waste / 4


def test_a_memory_budget_makes_fewer_batches_within_the_same_peak() -> None:
    rows: list[tuple[str, ...]] = []
    for shape, max_batch_s in (("tail", 200.0), ("cv", 200.0), ("libri", 210.0)):
        for quadratic_s in (15.0, 20.0, 40.0):
            cost = CostModel(a=1.0, b=1 / quadratic_s)
            durations = lengths(shape)
            padded = list(LengthBatcher(max_batch_s).plan(durations))
            # a plan by padded seconds must be safe for whatever batch it may make
            peak = max(cost.cost(max(1, int(max_batch_s / length_s)), length_s) for length_s in durations)
            aware = list(MemoryBatcher(budget_bytes=peak, cost=cost).plan(durations))
            figures = score(aware, durations, peak, cost=cost)
            assert (figures.over_budget, figures.lost, figures.duplicated) == (0, 0, 0)
            fewer = len(padded) / len(aware)
            rows.append(
                (
                    f"{shape}, q = {quadratic_s:g}",
                    str(len(padded)),
                    str(len(aware)),
                    f"{fewer:.2f}",
                    f"{100 * figures.waste:.2f}",
                    f"{100 * figures.fill:.1f}",
                )
            )
            if (shape, quadratic_s) == ("tail", 20.0):
                assert fewer >= 1.7
                assert figures.fill >= 0.95
    show(
        "equal peak, cost n (L + L² / q), window 8192",
        rows,
        ("lengths", "padded s", "memory", "× fewer", "waste %", "mean / peak %"),
    )
