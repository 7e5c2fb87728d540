"""Tells "it did not fit into memory" from all other errors."""

from __future__ import annotations

import errno
import re

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
    return any(kind.__name__ in _TOLD_BY_TYPE for kind in type(error).__mro__) or bool(
        _TOLD_BY_MESSAGE.search(str(error))
    )
