"""Memory of the device, and the optional protocols of recognisers that run on one."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from attrs import frozen


@frozen
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


@frozen
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


@runtime_checkable
class SupportsMemoryStats(Protocol):
    """An optional protocol of recognisers: reports how much device memory batches need.

    All methods are called in the thread that calls `transcribe`, between two batches.
    """

    def memory(self) -> DeviceMemory | None:
        """Return the device's memory; None: unknown, as on the CPU."""
        ...

    def measure(self, items: int, longest_s: float) -> int:
        """Run a synthetic batch and return the bytes that it needed in addition to those in use before it.

        Raises:
            RuntimeError: as `transcribe` does, out of memory among others.
        """
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


@runtime_checkable
class SupportsCudaGraphs(Protocol):
    """An optional protocol of recognisers: prepares CUDA graphs for planned batches before the first one runs."""

    def prepare(self, items: int, longest_s: float) -> bool:
        """Make room for batches of `items` items of up to `longest_s` seconds; called for each planned shape.

        Returns:
            Whether that took memory that stays in use.
        """
        ...


@runtime_checkable
class HasGpu(Protocol):
    """An optional protocol of recognisers: names the GPU in use, so that its utilisation can be read."""

    def gpu_uuid(self) -> str | None:
        """Return the GPU's UUID as NVML writes it, `GPU-…`; None: no GPU is in use, or it has no UUID."""
        ...
