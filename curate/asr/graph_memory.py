"""Keeps the memory that a CUDA graph with loops works in for as long as the graph is used.

torch allocates what a capture needs from a pool that lives as long as its graph, and recognises it by the id of the
capture that its stream is in (`CUDAGraph::create_allocate_filter`). NeMo captures the body of a loop on a stream of its
own, by calls of the driver, so that stream is in a capture that torch does not know. Whatever the body allocates comes
from the ordinary cache and returns there when the capture ends. The graph then works in memory that is released by the
next `empty_cache`, by the capture of another graph (which empties the cache first), or by torch itself where memory
runs out. A replay is then an illegal memory access, or it overwrites what has been allocated there since.

Two measures, neither of which has run on a GPU yet:

- The bodies allocate from a pool of their own (`torch.cuda.MemPool`), which is kept with the graph. By this reading of
  the code that is sufficient; `torch.cond` captures its branches in the same way.
- A graph is used only as long as the allocator has released no memory at all since its capture. That is not sufficient
  by itself: memory may run out between the question and the replay. It is for releases of torch without pools.

A pool's memory is released to the device as soon as its graph is dropped. `cudaFree` waits for a replay that is under
way, but expandable segments wait only for the stream that a block was allocated on, which is not the replay's. So
`finish_replays` comes first.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_POOL: ContextVar[Any] = ContextVar("curate_body_pool", default=None)


class GraphMemory:
    """torch's allocator, as far as graphs with loops depend on it.

    Args:
        torch: the module.
        pools: whether bodies allocate from pools of their own.
        checks: whether a graph is dropped after the allocator has released memory.
    """

    def __init__(self, torch: Any, *, pools: bool = True, checks: bool = True) -> None:
        self._torch = torch
        self._pools = pools
        self._checks = checks

    def released_bytes(self, device: Any) -> int:
        """Return how many bytes the allocator has released to the device so far; 0 where nothing is checked."""
        if not self._checks or device.type != "cuda":
            return 0
        statistics: Any = self._torch.cuda.memory_stats_as_nested_dict(device)
        # Not segments, of which those that expand are never freed as a whole.
        return int(statistics.get("reserved_bytes", {}).get("all", {}).get("freed", 0))

    def finish_replays(self, device: Any) -> None:
        """Wait for the device, so that no graph is replayed any more.

        Raises:
            RuntimeError: the CUDA context is broken.
        """
        if device.type == "cuda":
            self._torch.cuda.synchronize(device)

    def new_pool(self, device: Any) -> Any:
        """Return a pool for the bodies of one graph; None: this release of torch has none, or none is wanted."""
        cuda = self._torch.cuda
        if not self._pools or device.type != "cuda" or not hasattr(cuda, "use_mem_pool"):
            return None
        with cuda.device(device):
            return cuda.MemPool()


@contextmanager
def allocating_bodies_from(pool: Any) -> Generator[None]:
    """Have the bodies of loops that are captured in here allocate from `pool`; None: as torch does by itself."""
    token = _POOL.set(pool)
    try:
        yield
    finally:
        _POOL.reset(token)


@contextmanager
def body_memory(torch: Any, device: Any) -> Generator[None]:
    """Allocate from the pool of the graph that is captured; a body inside of another one is in it already."""
    pool = _POOL.get()
    if pool is None:
        yield
        return
    token = _POOL.set(None)  # torch refuses to enter a pool twice
    try:
        # A device without an index, which is the current one, is refused here.
        with torch.cuda.use_mem_pool(pool, None if device.index is None else device):
            yield
    finally:
        _POOL.reset(token)
