"""Counts the memory that a piece of work needs beside what was in use before it, on a card and on the CPU."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class MemoryCounter(Protocol):
    """Measures the peak of one piece of work alone."""

    def peak_bytes(self, work: Callable[[], object]) -> int:
        """Do `work` and return the most bytes of tensors that it had at a time."""
        ...


class CudaMemory:
    """torch's own statistics of a card: live tensors, not what the allocator has cached."""

    def __init__(self, device: str = "cuda") -> None:
        self.device = device

    def peak_bytes(self, work: Callable[[], object]) -> int:
        import torch

        gc.collect()
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        work()
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device) - before


class TensorMemory:
    """Live storages of all tensors that operators return in this thread; for the CPU, which has no statistics.

    Workspaces inside of kernels are not seen, and neither is what the allocator rounds up.
    """

    def peak_bytes(self, work: Callable[[], object]) -> int:
        from torch.utils._python_dispatch import TorchDispatchMode
        from torch.utils._pytree import tree_iter

        live: dict[int, int] = {}
        now = most = 0

        def forget(key: int) -> None:
            nonlocal now
            now -= live.pop(key, 0)

        class Watch(TorchDispatchMode):
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                nonlocal now, most
                kwargs = kwargs or {}
                known = {one._cdata for one in _storages(tree_iter((args, kwargs)))}
                result = func(*args, **kwargs)
                for storage in _storages(tree_iter(result)):
                    key = storage._cdata
                    if key not in live and key not in known:
                        live[key] = storage.nbytes()
                        now += live[key]
                        weakref.finalize(storage, forget, key)
                most = max(most, now)
                return result

        with Watch():
            work()
        return most


@contextmanager
def blocked(leave_bytes: int, device: str = "cuda") -> Iterator[int]:
    """Take a card's free memory but for `leave_bytes`, as another process might; yields what was taken."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    taken = max(0, free - leave_bytes)
    blocker: Any = torch.empty(taken, dtype=torch.uint8, device=device)
    try:
        yield taken
    finally:
        del blocker
        gc.collect()
        torch.cuda.empty_cache()


def _storages(values: Any) -> Iterator[Any]:
    import torch

    for value in values:
        if isinstance(value, torch.Tensor):
            yield value.untyped_storage()
