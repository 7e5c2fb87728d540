"""The GPU of a model that runs on torch: its memory, its limits, its identity. Imports no torch by itself."""

from __future__ import annotations

import sys
from gc import collect
from typing import Any

from curate.models.capabilities import DeviceMemory, MemoryPeak, ModelCapabilities
from curate.models.resources import ModelResources

CONTEXT_BYTES = 600e6
"""What CUDA and its libraries keep of a GPU for one process, outside of torch's allocator."""


_KEPT: list[object] = []


def keep_in_broken_context(*objects: object) -> None:
    """Keep objects for as long as this process runs, because a CUDA context is broken.

    An error in one of torch's destructors ends the process: on an H200 with torch 2.11, one did so with SIGABRT after
    an illegal memory access, and with it the report of that access. Which object it was is not known; pinned memory
    and pools of memory are freed in destructors.
    """
    _KEPT.append(objects)


class TorchMemoryMeter:
    """Measures the memory of torch's caching allocator on one GPU.

    Args:
        torch: the module.
        device: a `torch.device` of the kind `cuda`.
    """

    def __init__(self, torch: Any, device: Any) -> None:
        self._torch = torch
        self._device = device
        self._before: int | None = None

    def memory(self) -> DeviceMemory:
        """Return the GPU's memory; unused blocks of the allocator count as free."""
        cuda, device = self._torch.cuda, self._device
        free, total = cuda.mem_get_info(device)
        in_use = cuda.memory_allocated(device)
        cached = cuda.memory_reserved(device) - in_use
        return DeviceMemory(int(free + cached), int(in_use), int(total))

    def start_batch(self) -> None:
        """Reset the allocator's peak."""
        self._torch.cuda.reset_peak_memory_stats(self._device)
        self._before = int(self._torch.cuda.memory_allocated(self._device))

    def peak(self) -> MemoryPeak | None:
        """Return the peak since `start_batch`; None before the first."""
        if self._before is None:
            return None
        cuda, device = self._torch.cuda, self._device
        most = int(cuda.max_memory_allocated(device))
        return MemoryPeak(
            own_bytes=most - self._before,
            share=most / int(cuda.get_device_properties(device).total_memory),
            allocated_bytes=self._before,
            reserved_bytes=int(cuda.max_memory_reserved(device)),
        )

    def free_memory(self) -> None:
        """Release the memory that torch has cached.

        Raises:
            RuntimeError: the CUDA context is broken, so that what looked like a lack of memory was none.
        """
        collect()
        self._torch.cuda.empty_cache()
        self._torch.cuda.synchronize(self._device)  # `empty_cache` does not report a broken context


def torch_capabilities(resources: ModelResources) -> ModelCapabilities:
    """Return the capabilities of torch's GPU; none on the CPU, and where torch has not been imported."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not resources.on_gpu or not torch.cuda.is_available():
        return ModelCapabilities()
    device = torch.device(resources.device)
    return ModelCapabilities(meter=TorchMemoryMeter(torch, device), gpu_uuid=gpu_uuid(torch, device))


def restrict_torch(resources: ModelResources) -> None:
    """Keep torch, where it has been imported, to this worker's CPU threads or its part of the GPU's memory."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return
    if resources.threads is not None:
        torch.set_num_threads(resources.threads)
    if resources.on_gpu and torch.cuda.is_available():
        limit_gpu_memory(torch, torch.device(resources.device), resources.gpu_share, resources.gpu_memory_gb)


def limit_gpu_memory(torch: Any, device: Any, share: float, memory_gb: float | None) -> float:
    """Keep torch's allocator to this process's part of the GPU, and return the size of that part in bytes."""
    total = float(torch.cuda.get_device_properties(device).total_memory)
    part = min(share * total, total if memory_gb is None else memory_gb * 1e9)
    if part < total:
        allocator_bytes = max(part / 2, part - CONTEXT_BYTES)
        index = torch.cuda.current_device() if device.index is None else device.index  # `cuda` alone is refused
        torch.cuda.set_per_process_memory_fraction(min(1.0, allocator_bytes / total), index)
    return part


def gpu_uuid(torch: Any, device: Any) -> str | None:
    """Return the UUID of a GPU as NVML writes it; None where torch does not report one (before 2.4)."""
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return None if uuid is None else f"GPU-{str(uuid).removeprefix('GPU-')}"
