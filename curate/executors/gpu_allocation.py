"""The allocation of GPUs to workers: a whole GPU belongs to one worker, fractions share one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from curate.errors import PlanError
from curate.machine import Gpu
from curate.plan import Hop
from curate.resources import Resources


class GpuAllocator:
    """The GPUs of a machine, with the share of each that is allocated.

    Args:
        gpus: the GPUs that may be used.
    """

    def __init__(self, gpus: Sequence[Gpu]) -> None:
        self._gpus = gpus
        self._free = {gpu.id: 1.0 for gpu in gpus}
        self._free_gb = {gpu.id: gpu.memory_gb for gpu in gpus}

    def take(self, wanted: Resources) -> tuple[str, ...] | None:
        """Take GPUs for a worker and return their ids, an empty tuple if it needs none; None: not enough is free.

        A fraction goes to the emptiest GPU, so that workers spread over the GPUs.
        """
        if not wanted.gpus and not wanted.gpu_memory_gb:
            return ()
        fitting = [gpu for gpu in self._gpus if self._fits(gpu, wanted)]
        count = max(1, int(wanted.gpus))
        if len(fitting) < count:
            return None
        fitting.sort(key=lambda gpu: (-self._free[gpu.id], -(self._free_gb[gpu.id] or 0.0)))
        ids = tuple(gpu.id for gpu in fitting[:count])
        for gpu in ids:
            self._change(gpu, wanted, -1)
        return ids

    def release(self, ids: Sequence[str], wanted: Resources) -> None:
        """Free the GPUs of a worker."""
        for gpu in ids:
            self._change(gpu, wanted, 1)

    def left(self, wanted: Resources) -> int:
        """Return the number of further workers that fit."""
        found: list[tuple[str, ...]] = []
        while (ids := self.take(wanted)) is not None:
            found.append(ids)
        for ids in found:
            self.release(ids, wanted)
        return len(found)

    def _fits(self, gpu: Gpu, wanted: Resources) -> bool:
        free_gb = self._free_gb[gpu.id]
        enough_memory = not wanted.gpu_memory_gb or free_gb is None or free_gb + 1e-9 >= wanted.gpu_memory_gb
        return enough_memory and self._free[gpu.id] + 1e-9 >= self._share(gpu.id, wanted)

    def _share(self, gpu: str, wanted: Resources) -> float:
        """Return the share of a GPU that a worker takes; all of it where the GPU's memory is unknown."""
        if not wanted.gpus and self._free_gb[gpu] is None:
            return 1.0
        return min(1.0, wanted.gpus)

    def _change(self, gpu: str, wanted: Resources, sign: int) -> None:
        self._free[gpu] += sign * self._share(gpu, wanted)
        free_gb = self._free_gb[gpu]
        if free_gb is not None:
            self._free_gb[gpu] = free_gb + sign * wanted.gpu_memory_gb


@attrs.frozen
class GpuAssignment:
    """The GPUs of each worker, by hop and slot; workers of hops without a number of workers are assigned later."""

    taken: Mapping[tuple[int, int], tuple[str, ...]]
    allocator: GpuAllocator


def assign_gpus(hops: Sequence[Hop], gpus: Sequence[Gpu]) -> GpuAssignment:
    """Give every worker of a phase its GPUs, whole ones first, so that fractions do not break them up.

    Raises:
        PlanError: there are too few GPUs; the message has the requested and the available number.
    """
    allocator = GpuAllocator(gpus)
    taken: dict[tuple[int, int], tuple[str, ...]] = {}
    order = sorted(range(len(hops)), key=lambda number: -hops[number].resources.gpus)
    for number in order:
        hop = hops[number]
        for slot in range(hop.workers or 1):
            ids = allocator.take(hop.resources)
            if ids is None:
                raise PlanError(_too_many(hop, slot, gpus), hop.stages[0].name if hop.stages else None)
            taken[number, slot] = ids
    return GpuAssignment(taken, allocator)


def _too_many(hop: Hop, fitting: int, gpus: Sequence[Gpu]) -> str:
    wanted, workers = hop.resources, hop.workers or 1
    each = " and ".join(
        text
        for text, asked in (
            (f"gpus={wanted.gpus:g}", wanted.gpus),
            (f"gpu_memory_gb={wanted.gpu_memory_gb:g}", wanted.gpu_memory_gb),
        )
        if asked
    )
    sizes = ", ".join(gpu.id if gpu.memory_gb is None else f"{gpu.id} with {gpu.memory_gb:g} GB" for gpu in gpus)
    return (
        f"stage {hop.stages[0].name!r} asks for {workers} worker{'s' * (workers > 1)} with {each} each, but next "
        f"to the other stages of its phase only {fitting} fit on the GPUs of this machine ({sizes or 'none'}); change "
        f"it with .with_(workers={max(fitting, 1)}) or .with_(resources=Resources(gpus=…))"
    )
