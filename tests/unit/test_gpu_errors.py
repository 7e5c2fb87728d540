"""Errors of the GPU are told apart by what they ask of the caller, without torch."""

from __future__ import annotations

import errno

import pytest

from curate.engine.worker.error_classification import is_infrastructure
from curate.errors import RecordError
from curate.gpu_errors import GpuFault, classify_gpu_error, is_broken_gpu, is_oom, is_unusable_gpu


class OutOfMemoryError(RuntimeError):
    """Named as torch's own."""


class AcceleratorError(RuntimeError):
    """Named as torch's own."""


def caused_by(cause: BaseException) -> Exception:
    error = ValueError("decoding failed")
    error.__cause__ = cause
    return error


def over(context: BaseException, error: Exception) -> Exception:
    error.__context__ = context
    return error


END_OF_CAPTURE = "CUDA error: operation failed due to a previous error during capture"

OUT_OF_MEMORY = [
    OutOfMemoryError("Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 139.81 GiB"),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    AcceleratorError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
    RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR"),
    RuntimeError('NVML_SUCCESS == r INTERNAL ASSERT FAILED at "/pytorch/c10/cuda/CUDACachingAllocator.cpp":1131'),
    RuntimeError("CUDA driver error: CUDA_ERROR_OUT_OF_MEMORY"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("Expected canUse32BitIndexMath(input) && canUse32BitIndexMath(output) to be true, but got false."),
    RuntimeError("[enforce fail] input tensor is too large: numel exceeds INT_MAX"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:80] DefaultCPUAllocator: not enough memory: you tried to allocate"),
    MemoryError("std::bad_alloc"),
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    caused_by(RuntimeError("CUDA out of memory")),
    over(OutOfMemoryError("CUDA out of memory."), AcceleratorError(END_OF_CAPTURE)),
    caused_by(over(OutOfMemoryError("CUDA out of memory."), AcceleratorError(END_OF_CAPTURE))),
]

BROKEN = [
    AcceleratorError("CUDA error: device-side assert triggered"),
    AcceleratorError("CUDA error: an illegal memory access was encountered"),
    AcceleratorError(END_OF_CAPTURE),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(...)`"),
    RuntimeError("CUDA driver error: device-side assert triggered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_MAPPING_ERROR"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED_CUDART"),
    RuntimeError("HIP error: an illegal memory access was encountered"),
    RuntimeError("cuFFT error: CUFFT_EXEC_FAILED"),
]

UNUSABLE = [
    AcceleratorError("CUDA error: no kernel image is available for execution on the device"),
    AcceleratorError("CUDA error: invalid configuration argument"),
    AcceleratorError("CUDA error: all CUDA-capable devices are busy or unavailable"),
    AcceleratorError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"),  # since CUDA 11
    AcceleratorError("CUDA error: device kernel image is invalid"),
    AcceleratorError("CUDA error: the provided PTX was compiled with an unsupported toolchain."),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmStridedBatchedEx`"),
    RuntimeError("CUDA driver version is insufficient for CUDA runtime version"),
]

NONE_OF_THE_GPU = [
    RuntimeError("Expected all tensors to be on the same device"),
    RuntimeError("Called CUDAGraph::replay without a preceding successful capture."),
    OSError(errno.ENOSPC, "No space left on device"),
    ValueError("out of memory"),
    RecordError("oom", "the record alone does not fit in memory: CUDA out of memory"),
    over(OutOfMemoryError("CUDA out of memory."), RuntimeError("the clean-up failed")),
    KeyboardInterrupt(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=repr)
def test_error_that_a_smaller_batch_avoids_is_out_of_memory(error: Exception) -> None:
    assert classify_gpu_error(error) is GpuFault.OUT_OF_MEMORY
    assert is_oom(error)
    assert not is_broken_gpu(error)


@pytest.mark.parametrize("error", BROKEN, ids=repr)
def test_error_that_lasts_as_long_as_the_process_is_a_broken_context(error: Exception) -> None:
    assert is_broken_gpu(error)
    assert not is_oom(error)
    assert is_infrastructure(error)


@pytest.mark.parametrize("error", UNUSABLE, ids=repr)
def test_error_of_the_installation_blames_no_record_and_ends_no_worker(error: Exception) -> None:
    assert is_unusable_gpu(error)
    assert not is_broken_gpu(error)
    assert is_infrastructure(error)


@pytest.mark.parametrize("error", NONE_OF_THE_GPU, ids=repr)
def test_other_errors_are_none_of_the_gpu(error: BaseException) -> None:
    assert classify_gpu_error(error) is None


def test_circle_of_causes_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert not is_oom(first)


def test_error_that_cannot_be_shown_is_none_of_the_gpu() -> None:
    class Mute(RuntimeError):
        def __str__(self) -> str:
            raise ValueError("no")

    assert classify_gpu_error(Mute()) is None
