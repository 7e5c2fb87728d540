"""The time and the price of a whole job, with the workers of its plan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from curate.estimate.input_size import InputSize
from curate.estimate.prices import Prices
from curate.estimate.schedule import Capacity, HopLoad, phase_s, workers_of
from curate.estimate.workload import PhaseWork, StageWork, Workload
from curate.plan import Hop, Phase, Plan
from curate.resources import Resources

DRIVER = "driver"
"""The name of the row for what is done in the driver: reading, gathers, writers, starting workers."""


@attrs.frozen
class StageForecast:
    """One row of a forecast.

    Args:
        name: of the stage, or `driver`.
        phase: its number; None: of all phases.
        records: the number of records that reach it; None: not known.
        work_s: its time, in seconds over all workers; None: not measured.
        workers: the number of its workers, which it shares with the stages of its hop.
        wall_s: the part of the job's time that its work makes up, in seconds.
        price: what its workers cost while the phase lasts, divided by work where several stages share them.
    """

    name: str
    phase: int | None
    records: float | None
    work_s: float | None
    workers: int
    wall_s: float
    price: float


@attrs.frozen
class Bottleneck:
    """The stage that limits a job.

    Args:
        stage: its name, or `driver`.
        share: the share of the job's time that its work makes up.
        workers: twice its workers.
        cpus, gpus: what all workers of its phase need then.
        wall_s, price: those of the whole job with twice its workers; None: it is the driver, which there is once.
    """

    stage: str
    share: float
    workers: int = 0
    cpus: float = 0.0
    gpus: float = 0.0
    wall_s: float | None = None
    price: float | None = None


@attrs.frozen
class Forecast:
    """The time and the price of a whole job.

    Args:
        size: its input.
        stages: a row for each stage in workers, and one for the driver.
        work_s: the work of all stages, in seconds over all workers.
        wall_s: the time from the start to the end.
        loading_s: the part of it in which models are loaded.
        price: what all workers and the driver cost; 0 without prices.
        error: the standard error of the work, as a share; None: unknown.
        sampled: the number of records that the figures are from, in `parts` parts.
        bottleneck: the stage that limits the job; None: nothing was measured.
        notes: what it does not include, and what was assumed, one sentence each.
    """

    size: InputSize
    stages: tuple[StageForecast, ...]
    work_s: float
    wall_s: float
    loading_s: float
    price: float
    error: float | None
    sampled: int
    parts: int
    bottleneck: Bottleneck | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the forecast as JSON-ready data."""
        audio_s = self.size.audio_s
        return {
            **attrs.asdict(self),
            "audio_hours": None if audio_s is None else audio_s / 3600,
            "price_per_audio_hour": self.price / (audio_s / 3600) if audio_s and self.price else None,
        }


def forecast(plan: Plan, workload: Workload, capacity: Capacity, prices: Prices | None = None) -> Forecast:
    """Return the time and the price of a job.

    Args:
        plan: its plan, whose workers and resources count.
        workload: its work.
        capacity: what its executor divides among workers that the plan does not count.
        prices: of the resources; None: the price is 0.
    """
    prices = prices or Prices()
    phases = [
        _Phase.of(phase, work, workload.size, capacity)
        for phase, work in zip(plan.phases, workload.phases, strict=True)
    ]
    rows = [row for phase in phases for row in phase.rows(prices)]
    wall_s = sum(phase.wall_s for phase in phases)
    driver_s = sum(phase.driver_s for phase in phases)
    once = 0.0 if capacity.is_serial else wall_s * prices.of(Resources(cpus=1.0))
    rows.append(StageForecast(DRIVER, None, workload.size.records, driver_s, 1, driver_s, once))
    return Forecast(
        size=workload.size,
        stages=tuple(rows),
        work_s=sum(row.work_s or 0.0 for row in rows),
        wall_s=wall_s,
        loading_s=sum(phase.work.loading_s for phase in phases),
        price=sum(row.price for row in rows),
        error=workload.error,
        sampled=workload.sampled,
        parts=workload.parts,
        bottleneck=_bottleneck(rows, phases, wall_s, capacity, prices),
        notes=(*workload.notes, *_unmeasured(rows), *_assumptions(plan, capacity)),
    )


@attrs.frozen
class _Phase:
    """One phase with its workers."""

    phase: Phase
    work: PhaseWork
    loads: tuple[HopLoad, ...]
    workers: tuple[int, ...]
    working_s: float
    """The time of its hops, without loading."""

    @classmethod
    def of(cls, phase: Phase, work: PhaseWork, size: InputSize, capacity: Capacity) -> _Phase:
        longest = size.longest / size.amount if phase.number == 0 and size.amount else 0.0
        loads = tuple(_load(hop, work.stages, longest) for hop in phase.hops)
        workers = workers_of(loads, capacity)
        return cls(phase, work, loads, workers, phase_s(loads, workers, capacity))

    @property
    def driver_s(self) -> float:
        return self.work.driver_s + self.work.publishing_s

    @property
    def wall_s(self) -> float:
        return self.work.loading_s + self.working_s + self.driver_s

    def with_twice(self, hop: int, capacity: Capacity) -> _Phase:
        """Return the phase with twice the workers of one hop, on machines that hold them."""
        counts = [count * 2 if number == hop else count for number, count in enumerate(self.workers)]
        loads = tuple(attrs.evolve(load, workers=count) for load, count in zip(self.loads, counts, strict=True))
        cpus = sum(load.resources.cpus * count for load, count in zip(loads, counts, strict=True))
        gpus = sum(load.resources.gpus * count for load, count in zip(loads, counts, strict=True))
        working_s = phase_s(loads, counts, capacity.holding(cpus, gpus))
        return attrs.evolve(self, loads=loads, workers=tuple(counts), working_s=working_s)

    def rows(self, prices: Prices) -> list[StageForecast]:
        """Return a row for each stage in workers.

        The time of the phase is divided among the stages of the hop that takes longest, or among all of them where they
        wait for cores; a hop's price is divided among its stages. Both are divided by work.
        """
        held_s = self.work.loading_s + self.working_s + self.work.driver_s
        times = [load.wall_s(count) for load, count in zip(self.loads, self.workers, strict=True)]
        rows: list[StageForecast] = []
        for number, (hop, load, count) in enumerate(zip(self.phase.hops, self.loads, self.workers, strict=True)):
            waits = bool(times) and self.working_s > max(times) * (1 + 1e-9)
            decides = number == times.index(max(times))
            total_s = sum(each.work_s for each in self.loads) if waits else load.work_s
            for planned in hop.stages:
                stage = self.work.stages[planned.name]
                work_s = stage.work_s or 0.0
                rows.append(
                    StageForecast(
                        planned.name,
                        self.phase.number,
                        stage.records,
                        stage.work_s,
                        count,
                        self.working_s * work_s / total_s if total_s and (waits or decides) else 0.0,
                        held_s
                        * count
                        * prices.of(hop.resources)
                        * (work_s / load.work_s if load.work_s else 1 / len(hop.stages)),
                    )
                )
        return rows

    def hop_of(self, stage: str) -> int:
        return next(n for n, hop in enumerate(self.phase.hops) if any(each.name == stage for each in hop.stages))


def _load(hop: Hop, stages: Mapping[str, StageWork], longest: float) -> HopLoad:
    own = [stages[planned.name] for planned in hop.stages]
    arriving = math.inf if own[0].records is None else max(own[0].records, 1.0)
    whole = any(planned.stage.whole_batches for planned in hop.stages)
    return HopLoad(
        sum(stage.work_s or 0.0 for stage in own), hop.resources, hop.workers, arriving, 0.0 if whole else longest
    )


def _bottleneck(
    rows: Sequence[StageForecast], phases: Sequence[_Phase], wall_s: float, capacity: Capacity, prices: Prices
) -> Bottleneck | None:
    limiting = max(rows, key=lambda row: row.wall_s)
    if wall_s <= 0 or limiting.wall_s <= 0:
        return None
    share = limiting.wall_s / wall_s
    if limiting.phase is None:
        return Bottleneck(limiting.name, share)
    before = phases[limiting.phase]
    hop = before.hop_of(limiting.name)
    changed = before.with_twice(hop, capacity)
    others = [phase for phase in phases if phase is not before]
    total_s = sum(phase.wall_s for phase in (*others, changed))
    once = 0.0 if capacity.is_serial else total_s * prices.of(Resources(cpus=1.0))
    needed = [load.resources for load in changed.loads]
    return Bottleneck(
        limiting.name,
        share,
        workers=changed.workers[hop],
        cpus=sum(each.cpus * count for each, count in zip(needed, changed.workers, strict=True)),
        gpus=sum(each.gpus * count for each, count in zip(needed, changed.workers, strict=True)),
        wall_s=total_s,
        price=sum(row.price for phase in (*others, changed) for row in phase.rows(prices)) + once,
    )


def _unmeasured(rows: Sequence[StageForecast]) -> list[str]:
    missing = [row.name for row in rows if row.work_s is None]
    return [f"not measured, and not included: {', '.join(missing)}"] if missing else []


def _assumptions(plan: Plan, capacity: Capacity) -> list[str]:
    """Return the assumptions about workers, one sentence each."""
    unset = [hop.stages[0].name for phase in plan.phases for hop in phase.hops if hop.workers is None]
    if capacity.cpus is None and unset:
        return [
            f"the size of the cluster is unknown, so {', '.join(unset)} and the stages that share their workers count "
            f"with 1 worker: --set stages.{unset[0]}.workers=N"
        ]
    return []
