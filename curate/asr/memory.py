"""Memory of the device: what a recogniser may tell about it, and which errors mean that it ran out."""

from __future__ import annotations

import errno
import re
from typing import Protocol, runtime_checkable

from attrs import frozen


@frozen
class DeviceMemory:
    """Memory of a device, in bytes.

    Args:
        free_bytes: what is free for the next batch, the allocator's unused blocks among it.
        own_bytes: what this process has in use: weights, and what else stays between batches.
        total_bytes: what the device has.
    """

    free_bytes: int
    own_bytes: int
    total_bytes: int


@frozen
class Peak:
    """The most memory that one batch had in use.

    Args:
        own_bytes: beside what was in use before it, weights for example.
        share: all of it together, as a share of the device's memory.
        allocated_bytes: what was in use before it; None where that is not told.
        reserved_bytes: the most that the allocator kept from the device, in use or not; None where that is not told.
    """

    own_bytes: int
    share: float
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None


@runtime_checkable
class MeasuresMemory(Protocol):
    """What a recogniser has that can tell how much memory its batches need, beside what a `Recogniser` has.

    All are called in the thread that calls `transcribe`, between two batches.
    """

    def memory(self) -> DeviceMemory | None:
        """Return the device's memory, None where it cannot be told, as on the CPU."""
        ...

    def measure(self, items: int, longest_s: float) -> int:
        """Run a synthetic batch and return the bytes that it needed beside what was in use before.

        Raises:
            RuntimeError: as `transcribe` does, out of memory among others.
        """
        ...

    def peak(self) -> Peak | None:
        """Return the peak of the last batch alone, None where it cannot be told."""
        ...

    def free_memory(self) -> None:
        """Give back what is cached; called after a batch that ran out of memory."""
        ...


@runtime_checkable
class CapturesGraphs(Protocol):
    """What a recogniser has that is better told beforehand how large its batches will be."""

    def prepare(self, items: int, longest_s: float) -> bool:
        """Make room for batches of up to so many items and seconds, and say whether that took memory that stays."""
        ...


@runtime_checkable
class RunsOnGpu(Protocol):
    """What a recogniser has that can name its card, so that the card's utilisation can be read."""

    def gpu_uuid(self) -> str | None:
        """Return the card's UUID as NVML writes it, `GPU-…`; None where there is no card, or it has none."""
        ...


_TOLD_BY_TYPE = {"OutOfMemoryError"}
_TOLD_BY_MESSAGE = re.compile(
    r"""
      out\ of\ memory                              # CUDA, HIP, MPS, XPU; the driver's and the runtime's
    | OUT_OF_MEMORY | cudaErrorMemoryAllocation | hipErrorOutOfMemory
    | CUBLAS_STATUS_ALLOC_FAILED | CUDNN_STATUS_ALLOC_FAILED | CUSOLVER_STATUS_ALLOC_FAILED | CUFFT_ALLOC_FAILED
    | CUDNN_STATUS_INTERNAL_ERROR_(?:DEVICE|HOST)_ALLOCATION_FAILED
    | unable\ to\ find\ a\ valid\ cuDNN\ algorithm  # what cuDNN says when no algorithm's workspace fits
    | DefaultCPUAllocator:\ (?:not\ enough\ memory|can't\ allocate\ memory)
    | std::bad_alloc
    """,
    re.VERBOSE | re.IGNORECASE,
)


def is_oom(error: BaseException) -> bool:
    """Say whether `error`, or what it was raised from, means that a smaller batch might have worked.

    True for exhausted GPU memory, for cuDNN's and cuBLAS's failed allocations, and for exhausted CPU memory. Goes by
    names and messages, so that it needs no torch and that tests can raise one. Only errors of the kind that torch and
    the operating system raise are read: a message of ours that talks about memory is none.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if _says_oom(cause):
            return True
        seen.add(id(cause))
        cause = cause.__cause__
    return False


def _says_oom(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if not isinstance(error, RuntimeError):
        return False
    if any(kind.__name__ in _TOLD_BY_TYPE for kind in type(error).__mro__):
        return True
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 (a stranger's error, which cannot say that it is about memory)
        return False
    return bool(_TOLD_BY_MESSAGE.search(text))
