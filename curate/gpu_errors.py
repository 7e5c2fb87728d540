"""Classifies the errors of torch, cuDNN, cuBLAS, cuFFT and the driver by what they ask of the caller.

Three answers matter: try a smaller batch, end this process, or stop the run. The classification reads class names and
messages, so it imports no torch, works on errors that crossed a process boundary, and can be tested on any machine.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from enum import Enum


class GpuFault(Enum):
    """What an error of the GPU, or of memory, means for the caller."""

    OUT_OF_MEMORY = "out of memory"
    """A smaller batch may work; the context is intact."""

    BROKEN_CONTEXT = "broken context"
    """Every later call of this process fails as well: only a new process can use the GPU."""

    UNUSABLE_GPU = "unusable GPU"
    """The installation, the GPU or the driver cannot do this: neither a record nor a new process changes that."""


_OUT_OF_MEMORY = re.compile(
    r"""
      out\ of\ memory                              # CUDA, HIP, MPS, XPU; the driver's and the runtime's
    | OUT_OF_MEMORY | cudaErrorMemoryAllocation | hipErrorOutOfMemory
    | CUBLAS_STATUS_ALLOC_FAILED | CUDNN_STATUS_ALLOC_FAILED | CUSOLVER_STATUS_ALLOC_FAILED | CUFFT_ALLOC_FAILED
    | CUDNN_STATUS_INTERNAL_ERROR                  # also …_DEVICE_ALLOCATION_FAILED and …_HOST_ALLOCATION_FAILED
    # Handles and plans that find no memory for their workspace say only this much.
    | CUBLAS_STATUS_NOT_INITIALIZED | CUDNN_STATUS_NOT_INITIALIZED | CUFFT_INTERNAL_ERROR
    | NVML_SUCCESS\ ==\ r\ INTERNAL\ ASSERT         # the allocator, when it composes the message of an OOM
    | unable\ to\ find\ (?:a\ valid\ cuDNN\ algorithm|an\ engine\ to\ execute)
    | canUse32BitIndexMath | numel\ exceeds\ INT_MAX  # more elements than a kernel's index can address
    | DefaultCPUAllocator:\ (?:not\ enough\ memory|can't\ allocate\ memory)
    | std::bad_alloc
    """,
    re.VERBOSE | re.IGNORECASE,
)

_UNUSABLE_GPU = re.compile(
    r"""
      no\ kernel\ image\ is\ available | invalid\ configuration\ argument | invalid\ device\ function
    | device\ kernel\ image\ is\ invalid | compiled\ with\ an\ unsupported\ toolchain
    | no\ CUDA-capable\ device | CUDA-capable\ device(?:s|\(s\))\ (?:are|is/are)\ busy | invalid\ device\ ordinal
    | driver\ version\ is\ insufficient | forward\ compatibility\ was\ attempted | system\ not\ yet\ initialized
    | unsupported\ display\ driver
    | CUBLAS_STATUS_(?:NOT_SUPPORTED|ARCH_MISMATCH) | CUDNN_STATUS_ARCH_MISMATCH
    """,
    re.VERBOSE | re.IGNORECASE,
)

_BROKEN_CONTEXT = re.compile(
    r"""
      ^(?:CUDA|HIP)\ (?:driver\ )?error
    | (?:CUDNN|CUBLAS)_STATUS_(?:MAPPING_ERROR|EXECUTION_FAILED) | CUFFT_EXEC_FAILED
    | device-side\ assert\ triggered | illegal\ memory\ access | misaligned\ address | unspecified\ launch\ failure
    """,
    re.VERBOSE | re.IGNORECASE,
)

_OF_A_CAPTURE = re.compile(
    r"during capture|stream is capturing|StreamCapture|capturing (?:blocking )?stream|capture sequence|uncaptured work",
    re.IGNORECASE,
)


def classify_gpu_error(error: BaseException) -> GpuFault | None:
    """Return the kind of GPU fault that `error` means, or None if it is neither a GPU error nor a lack of memory.

    The causes of `error` are read as well, and what an error at the end of a CUDA graph's capture interrupted, because
    such an error names the capture and not its reason. Only `RuntimeError`, `MemoryError` and `OSError` are read: a
    `RecordError` that mentions memory is not a lack of memory.
    """
    faults = [fault for cause in _causes(error) if (fault := _fault_of(cause)) is not None]
    if GpuFault.OUT_OF_MEMORY in faults:
        return GpuFault.OUT_OF_MEMORY
    return _fault_of(error)


def is_oom(error: BaseException) -> bool:
    """Return whether `error`, or what it was raised from, means that a smaller batch may work.

    True for exhausted memory of the GPU and of the CPU, and for batches with more elements than a kernel can index.
    cuBLAS, cuDNN and cuFFT report a workspace that could not be allocated in the words they also have for a broken
    context, so after an OOM the device has to be synchronised, which raises where the context is broken.
    """
    return classify_gpu_error(error) is GpuFault.OUT_OF_MEMORY


def is_broken_gpu(error: BaseException) -> bool:
    """Return whether a CUDA context is broken, and with it every later call of this process."""
    return classify_gpu_error(error) is GpuFault.BROKEN_CONTEXT


def is_unusable_gpu(error: BaseException) -> bool:
    """Return whether the GPU, its driver or the installed kernels cannot do what is asked, whatever the record."""
    return classify_gpu_error(error) is GpuFault.UNUSABLE_GPU


def is_capture_error(error: BaseException) -> bool:
    """Return whether a CUDA graph could not be captured, which leaves the context intact unless its cause says else."""
    return isinstance(error, RuntimeError) and _OF_A_CAPTURE.search(_message(error)) is not None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and what caused it, each once."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        yield cause
        seen.add(id(cause))
        following = cause.__cause__
        if following is None and is_capture_error(cause):
            following = cause.__context__
        cause = following


def _fault_of(error: BaseException) -> GpuFault | None:
    """Return the fault of one error, without its causes."""
    if isinstance(error, MemoryError):
        return GpuFault.OUT_OF_MEMORY
    if isinstance(error, OSError):
        return GpuFault.OUT_OF_MEMORY if error.errno == errno.ENOMEM else None
    if not isinstance(error, RuntimeError):
        return None
    kinds = {kind.__name__ for kind in type(error).__mro__}
    message = _message(error)
    if "OutOfMemoryError" in kinds or _OUT_OF_MEMORY.search(message):
        return GpuFault.OUT_OF_MEMORY
    if _UNUSABLE_GPU.search(message):
        return GpuFault.UNUSABLE_GPU
    if "AcceleratorError" in kinds or _BROKEN_CONTEXT.search(message):
        return GpuFault.BROKEN_CONTEXT
    return None


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 (a third-party error that cannot be shown says nothing about the GPU)
        return ""
