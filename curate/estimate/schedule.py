"""How long a phase takes with a number of workers: the executor's arithmetic, without running anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from curate.machine import Machine
from curate.resources import Resources

_EXACT = 1e-9
"""Sums of fractions are taken for equal within this."""


@attrs.frozen
class Capacity:
    """The resources that an executor divides among workers.

    Args:
        is_serial: whether all hops share one thread, as the local executor has it.
        cpus: the cores; None: unknown, as those of a cluster at an address.
        gpus: the GPUs; None: unknown.
    """

    is_serial: bool
    cpus: float | None
    gpus: float | None

    @classmethod
    def of(cls, executor: Any) -> Capacity:
        """Return the capacity of an executor, by the attributes that those of curate have."""
        if getattr(executor, "name", "") == "local":
            return cls(True, 1.0, float(Machine.here().gpus))
        if getattr(executor, "address", None) is not None:
            return cls(False, None, None)
        here = Machine.here()
        cpus = getattr(executor, "cpus", None) or getattr(executor, "num_cpus", None) or here.cpus
        gpus: Any = getattr(executor, "gpus", None)
        count = getattr(executor, "num_gpus", None) if gpus is None else len(gpus)
        return cls(False, float(cpus), float(here.gpus if count is None else count))

    def fits(self, resources: Resources, used: Sequence[Resources]) -> bool:
        """Return whether one more worker fits next to others; never where the capacity is unknown.

        A worker without cores of its own counts as one.
        """
        if self.cpus is None or self.gpus is None:
            return False
        cpus = (resources.cpus or 1.0) + sum(each.cpus or 1.0 for each in used)
        gpus = resources.gpus + sum(each.gpus for each in used)
        return cpus <= self.cpus + _EXACT and (not resources.gpus or gpus <= self.gpus + _EXACT)

    def holding(self, cpus: float, gpus: float) -> Capacity:
        """Return this capacity, or a larger one that holds these resources."""
        if self.cpus is None or self.gpus is None:
            return self
        return attrs.evolve(self, cpus=max(self.cpus, cpus), gpus=max(self.gpus, gpus))


@attrs.frozen
class HopLoad:
    """The work of one hop in a phase.

    Args:
        work_s: in seconds over all its workers.
        resources: of one worker.
        workers: the number that the plan asks for; None: the executor chooses.
        records: the largest number of workers that can have work at the same time.
        longest: the share of the work in the record that takes longest.
    """

    work_s: float
    resources: Resources
    workers: int | None
    records: float = float("inf")
    longest: float = 0.0

    def wall_s(self, workers: int) -> float:
        """Return the time of this work with a number of workers.

        The last record leaves the other workers without work for half of its time, on average.
        """
        working = max(1.0, min(float(workers), self.records))
        return self.work_s * (1 / working + self.longest * (1 - 1 / working) / 2)


def workers_of(hops: Sequence[HopLoad], capacity: Capacity) -> tuple[int, ...]:
    """Return the number of workers of each hop of a phase, as the scheduler chooses it.

    A hop without a number gets one worker. Those that remain go to the hop that limits the others, by its work.
    """
    if capacity.is_serial:
        return (1,) * len(hops)
    counts = [1 if hop.workers is None else hop.workers for hop in hops]
    while True:
        used = [hop.resources for count, hop in zip(counts, hops, strict=True) for _ in range(count)]
        growing = [
            number
            for number, hop in enumerate(hops)
            if hop.workers is None and counts[number] < hop.records and capacity.fits(hop.resources, used)
        ]
        if not growing:
            return tuple(counts)
        counts[max(growing, key=lambda number: hops[number].work_s / counts[number])] += 1


def phase_s(hops: Sequence[HopLoad], workers: Sequence[int], capacity: Capacity) -> float:
    """Return the time of a phase whose workers are set up, in seconds.

    The hops work at the same time, so the slowest decides, unless all of them together need more cores than there are.
    """
    if not hops:
        return 0.0
    if capacity.is_serial:
        return sum(hop.work_s / max(1, count) for hop, count in zip(hops, workers, strict=True))
    slowest = max(hop.wall_s(count) for hop, count in zip(hops, workers, strict=True))
    if capacity.cpus is None:
        return slowest
    return max(slowest, sum(hop.work_s * hop.resources.cpus for hop in hops) / capacity.cpus)
