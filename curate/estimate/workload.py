"""The work of a whole job, stage by stage, extrapolated from the figures of a sample or of an earlier run.

The work of a stage is a constant and a part that grows with the input: the constant is known where the parts of a
sample have different sizes. The input grows by its audio, or by its records for a stage that works on a fixed number of
windows of each. What filters leave out and what splits multiply is in the sample, and grows in proportion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs

from curate.estimate.figures import RunFigures
from curate.estimate.input_size import InputSize
from curate.estimate.schedule import Capacity, HopLoad, phase_s, workers_of
from curate.plan import Hop, Phase, Plan, PlannedStage
from curate.stage import ProcessingStage

_APART = 4.0
"""The ratio of the largest to the smallest part from which a constant is distinguished from what grows."""

_FITTED = 3
"""The number of parts from which a constant is distinguished: a line through two of them follows their noise."""

_SHOWS_GROWTH = 1000
"""The records of a part from which the time of a gather or a writer is taken to grow with them, if nothing else shows
it; that of fewer is starting a database, syncing files.
"""


@attrs.frozen
class StageWork:
    """The work of one stage of the whole job.

    Args:
        work_s: in seconds over all its workers; None: not known.
        records: the number of records that reach it; None: not known.
    """

    name: str
    work_s: float | None
    records: float | None


@attrs.frozen
class PhaseWork:
    """The work of one phase of the whole job.

    Args:
        stages: the stages in workers, by name.
        loading_s: until each hop has a worker whose model is loaded.
        driver_s: what is done once and one after the other: reading, a gather, starting and ending workers.
        publishing_s: the time of the writers.
    """

    stages: Mapping[str, StageWork]
    loading_s: float = 0.0
    driver_s: float = 0.0
    publishing_s: float = 0.0


@attrs.frozen
class Workload:
    """The work of a whole job.

    Args:
        size: its input.
        phases: in order.
        sampled: the number of records that the figures are from.
        parts: the number of parts in which these were processed.
        error: the standard error of the work as a share of it, by the differences between the parts; None: unknown.
        notes: what is not included, one sentence each.
    """

    size: InputSize
    phases: tuple[PhaseWork, ...]
    sampled: int
    parts: int
    error: float | None
    notes: tuple[str, ...] = ()


def extrapolate(
    plan: Plan, size: InputSize, parts: Sequence[RunFigures], capacity: Capacity, *, notes: Sequence[str] = ()
) -> Workload:
    """Return the work of the whole input.

    Args:
        plan: the plan of the whole job.
        size: its input.
        parts: the figures of one or more runs, each with its `size` in the unit of `size`.
        capacity: that of the executor which has run the parts.
        notes: what the parts do not include.
    """
    phases: list[PhaseWork] = []
    constant_s = 0.0
    for number, phase in enumerate(plan.phases):
        work: dict[str, StageWork] = {}
        is_whole = number == 0  # until a stage that splits, the records of a stage are those of the input
        for hop in phase.hops:
            for planned in hop.stages:
                own = [part for part in parts if planned.name in part.stages]
                work[planned.name], fixed_s = _stage_work(planned, number, own, size, is_whole=is_whole)
                constant_s += fixed_s
                is_whole = is_whole and planned.stage.cardinality != "splits"
        phases.append(_phase_work(phase, number, work, parts, size, capacity))
    return Workload(
        size,
        tuple(phases),
        sum(part.records for part in parts),
        len(parts),
        _error(parts, size, constant_s),
        tuple(notes),
    )


def _stage_work(
    planned: PlannedStage[ProcessingStage], phase: int, parts: Sequence[RunFigures], size: InputSize, *, is_whole: bool
) -> tuple[StageWork, float]:
    """Return the work of a stage, and the part of it that is constant.

    Args:
        planned: the stage.
        phase: the number of its phase.
        parts: those that have figures of it.
        size: the whole input.
        is_whole: whether its records are those of the input, and not parts of them.
    """
    if not parts:
        return StageWork(planned.name, None, None), 0.0
    figures = [part.stages[planned.name] for part in parts]
    by_records = is_whole and _is_windowed(planned.stage)
    reached = [_reached(part, phase, part.records if by_records else part.size) for part in parts]
    target = size.records if by_records else size.amount
    fixed_s, growth = _line([(amount, each.busy_s) for amount, each in zip(reached, figures, strict=True)])
    arriving = sum(each.records_in for each in figures)
    records = size.records if is_whole else arriving / max(sum(reached), 1e-9) * target
    return StageWork(planned.name, fixed_s + growth * target, records), fixed_s


def _is_windowed(stage: ProcessingStage) -> bool:
    """Return whether a stage works on a fixed number of windows of each recording, however long it is."""
    return isinstance(getattr(stage, "max_windows", None), int)


def _reached(part: RunFigures, phase: int, size: float) -> float:
    """Return the share of a part's input that a phase of it has finished, in the same unit."""
    for before, after in zip(part.phases[:phase], part.phases[1 : phase + 1], strict=False):
        size *= min(1.0, after.records_in / before.kept) if before.kept else 1.0
    return size


def _line(points: Sequence[tuple[float, float]], *, constant: bool = False) -> tuple[float, float]:
    """Return the constant and the slope of a straight line through points, neither below 0.

    Args:
        points: sizes and values.
        constant: whether the line is level where the points are not far apart or fall; by default it goes through 0.
    """
    sizes = [size for size, _ in points]
    if not points or not sum(sizes):
        return 0.0, 0.0
    simple = (_mean(points), 0.0) if constant else (0.0, _mean(points) * len(points) / sum(sizes))
    if len(points) < _FITTED or max(sizes) < _APART * min(sizes):
        return simple
    mean, level = math.fsum(sizes) / len(points), math.fsum(value for _, value in points) / len(points)
    slope = sum((size - mean) * (value - level) for size, value in points) / sum((size - mean) ** 2 for size in sizes)
    start = level - slope * mean
    if slope <= 0:
        return simple
    return (start, slope) if start >= 0 else (0.0, level / mean)


def _mean(points: Sequence[tuple[float, float]]) -> float:
    return sum(value for _, value in points) / max(1, len(points))


def _phase_work(
    phase: Phase,
    number: int,
    work: Mapping[str, StageWork],
    parts: Sequence[RunFigures],
    size: InputSize,
    capacity: Capacity,
) -> PhaseWork:
    """Return the work of a phase: what its workers do, and what is left of the time that it took."""
    loading: list[tuple[float, float]] = []
    left: list[tuple[float, float]] = []
    published: list[tuple[float, float]] = []
    for part in parts:
        if number >= len(part.phases) or (measured := part.phases[number]).wall_s is None:
            continue
        loads = [_measured_load(hop, part, measured.records_in) for hop in phase.hops]
        workers = measured.workers if len(measured.workers) == len(loads) else workers_of(loads, capacity)
        loading.append((part.size, measured.loading_s))
        rest_s = measured.wall_s - measured.loading_s - phase_s(loads, workers, capacity)
        left.append((part.size, max(0.0, rest_s)))
        published.append((part.size, measured.publishing_s))
    is_small = max((part.records for part in parts), default=0) < _SHOWS_GROWTH
    grows = phase.gather is not None or not phase.hops
    fixed_s, growth = _line(left, constant=is_small) if grows else (_mean(left), 0.0)  # to start and end workers
    written_s, written_growth = _line(published, constant=is_small)
    return PhaseWork(
        work,
        loading_s=_mean(loading),
        driver_s=fixed_s + growth * size.amount,
        publishing_s=written_s + written_growth * size.amount if phase.writers else 0.0,
    )


def _measured_load(hop: Hop, part: RunFigures, records: int) -> HopLoad:
    work_s = sum(part.stages[planned.name].busy_s for planned in hop.stages if planned.name in part.stages)
    return HopLoad(work_s, hop.resources, hop.workers, records)


def _error(parts: Sequence[RunFigures], size: InputSize, constant_s: float) -> float | None:
    """Return the standard error of the work for each unit of the input, as a share of it; None: one part shows none.

    The parts are spread over the input, so their differences are what another sample would differ by. A sample of the
    whole input has no such error.
    """
    sizes = [part.size for part in parts]
    if len(parts) < 2 or min(sizes) <= 0:
        return None
    rates = [max(0.0, part.work_s - constant_s) / part.size for part in parts]
    total = sum(sizes)
    mean = sum(rate * amount for rate, amount in zip(rates, sizes, strict=True)) / total
    if mean <= 0:
        return None
    squares = sum((amount * (rate - mean)) ** 2 for rate, amount in zip(rates, sizes, strict=True))
    left = max(0.0, 1 - total / size.amount)
    return math.sqrt(squares / total**2 * len(parts) / (len(parts) - 1) * left) / mean
