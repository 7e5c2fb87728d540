"""Out of memory is told from all other errors, without torch."""

from __future__ import annotations

import errno

import pytest

from curate.asr import is_oom
from curate.errors import RecordError


class OutOfMemoryError(RuntimeError):
    """Named as torch's own."""


class AcceleratorError(RuntimeError):
    """Named as torch's own."""


def caused_by(cause: BaseException) -> Exception:
    error = ValueError("decoding failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 139.81 GiB"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
        RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
        RuntimeError("CUDA driver error: CUDA_ERROR_OUT_OF_MEMORY"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:80] DefaultCPUAllocator: not enough memory: you tried to allocate"
        ),
        MemoryError("std::bad_alloc"),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        caused_by(RuntimeError("CUDA out of memory")),
    ],
    ids=repr,
)
def test_exhausted_memory_is_recognised(error: Exception) -> None:
    assert is_oom(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("Expected all tensors to be on the same device"),
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("out of memory"),
        RecordError("oom", "the record alone does not fit in memory: CUDA out of memory"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_other_trouble_is_not_taken_for_it(error: BaseException) -> None:
    assert not is_oom(error)


def test_a_circle_of_causes_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert not is_oom(first)


def test_an_error_that_cannot_be_shown_is_none() -> None:
    class Mute(RuntimeError):
        def __str__(self) -> str:
            raise ValueError("no")

    assert not is_oom(Mute())
