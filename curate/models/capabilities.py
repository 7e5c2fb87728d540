"""What a model can do in addition to `infer`, as one value, and the device memory that it reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import attrs

if TYPE_CHECKING:
    from curate.models.clip import Clip


@attrs.frozen
class DeviceMemory:
    """Memory of a device, in bytes.

    Args:
        free_bytes: free for the next batch, unused blocks of this process's allocator included.
        own_bytes: in use by this process: weights, and whatever else stays between batches.
        total_bytes: the device's capacity.
    """

    free_bytes: int
    own_bytes: int
    total_bytes: int


@attrs.frozen
class MemoryPeak:
    """The most memory that one batch had in use.

    Args:
        own_bytes: needed by the batch, in addition to what was in use before it, such as weights.
        share: in use altogether, as a share of the device's memory.
        allocated_bytes: in use before the batch; None: unknown.
        reserved_bytes: the most that the allocator held of the device, in use or not; None: unknown.
    """

    own_bytes: int
    share: float
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None


class MemoryMeter(Protocol):
    """Reports how much device memory batches need. Its methods are called in the model's thread."""

    def memory(self) -> DeviceMemory | None:
        """Return the device's memory, between two batches; None: unknown."""
        ...

    def start_batch(self) -> None:
        """Begin to measure a batch; called before each `infer`."""
        ...

    def peak(self) -> MemoryPeak | None:
        """Return the peak of the last batch alone; None: unknown."""
        ...

    def free_memory(self) -> None:
        """Release cached memory; called after a batch that ran out of memory.

        Raises:
            RuntimeError: the device's context is broken.
        """
        ...


@attrs.frozen
class ModelCapabilities:
    """What a model can do in addition to `infer`. Each member may be left out.

    Args:
        stage: `stage(clips)` prepares a batch on the CPU, in a thread of its own, while the model works on the one
            before; it returns the clips in the form that `infer` takes fastest. It raises as `infer` does.
        reserve: `reserve(items, longest_s)` makes room for batches of `items` clips of up to `longest_s` seconds, such
            as CUDA graphs, before the first of them; called for each planned shape. It returns whether that took memory
            that stays in use.
        meter: reports the memory of the device: budgets are then in bytes, and adapt to it.
        gpu_uuid: the UUID of the GPU as NVML writes it, `GPU-…`, so that its utilisation can be read.
        runtime_info: returns the device, number format and the like, as plain data, for reports.
    """

    stage: Callable[[Sequence[Clip]], Sequence[Clip]] | None = None
    reserve: Callable[[int, float], bool] | None = None
    meter: MemoryMeter | None = None
    gpu_uuid: str | None = None
    runtime_info: Callable[[], Mapping[str, Any]] | None = None
