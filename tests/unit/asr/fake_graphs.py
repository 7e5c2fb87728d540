"""CUDA graphs of NeMo's decoder, on the CPU: what torch and the driver would do is replaced, NeMo's own code runs.

A fake graph replays the decoding loop over the buffers that it was captured for, as a real one does, whatever buffers
the decoder has by now. A limit on their size stands for the memory of a GPU.
"""

from __future__ import annotations

import weakref
from types import SimpleNamespace
from typing import Any

from curate.asr import NemoRecogniser, graph_memory
from curate.asr.graph_memory import GraphMemory
from curate.models.side_stream import CAPTURES


class FakeMemory(GraphMemory):
    """torch's allocator: what a loop's body works in is released with the cache, unless it has a pool of its own."""

    def __init__(self, *, pools: bool, checks: bool) -> None:
        super().__init__(None, pools=pools, checks=checks)
        self.releases = 0
        self.replays: list[FakeGraph] = []
        """Graphs that are replayed until something waits for the GPU."""
        self.broken: Exception | None = None
        self.pools: weakref.WeakSet[Any] = weakref.WeakSet()

    def released_bytes(self, device: Any) -> int:
        return self.releases if self._checks else 0

    def finish_replays(self, device: Any) -> None:
        if self.broken is not None:
            raise self.broken
        self.replays.clear()

    def new_pool(self, device: Any) -> Any:
        if not self._pools:
            return None
        pool = BodyPool()
        self.pools.add(pool)
        return pool

    def empty_cache(self) -> None:
        self.releases += 1


class BodyPool:
    """A pool, which can be referred to weakly."""


class FakeGraph:
    """A captured decoding loop, bound to the buffers that it was captured for."""

    def __init__(self, computer: Any, memory: FakeMemory | None = None) -> None:
        self._computer = computer
        self._state = computer.state
        self._memory = memory
        pool = graph_memory._POOL.get()
        self._pool = None if pool is None else weakref.ref(pool)
        self._captured_at = memory.releases if memory is not None else 0

    def _check_memory(self) -> None:
        is_kept = self._pool is not None and self._pool() is not None
        if self._memory is not None and not is_kept and self._memory.releases != self._captured_at:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def replay(self) -> None:
        self._check_memory()
        if self._memory is not None:
            self._memory.replays[:] = [self]
        computer = self._computer
        current, computer.state = computer.state, self._state
        computer._before_outer_loop()
        while computer.state.active_mask_any.item():
            computer._before_inner_loop_get_joint_output()
            while computer.state.advance_mask_any.item():
                computer._inner_loop_step_find_next_non_blank()
            computer._after_inner_loop_step()
        computer.state = current


class FakeSeparateGraphs:
    """NeMo's slower kind, whose loops run in Python; replayed through the same bound buffers."""

    def __init__(self, computer: Any) -> None:
        def bound(step: Any) -> Any:
            state = computer.state

            def replay() -> None:
                current, computer.state = computer.state, state
                step()
                computer.state = current

            return SimpleNamespace(replay=replay)

        self.before_outer_loop = bound(computer._before_outer_loop)
        self.before_inner_loop = bound(computer._before_inner_loop_get_joint_output)
        self.inner_loop_code = bound(computer._inner_loop_step_find_next_non_blank)
        self.after_inner_loop = bound(computer._after_inner_loop_step)


class FakeCuda:
    """Gives the decoder of a recogniser that is set up on the CPU fake CUDA graphs.

    Args:
        recogniser: with a transducer.
        mode: of NeMo's kinds of graphs.

    Attributes:
        captures: rows and frames of each capture.
        max_rows: a capture with more rows runs out of memory.
        failing: what a capture raises, in place of capturing.
        fails_at: where: `warm-up`, or `compile`.
        memory: what the loops work in; None: whatever they need is always there.
    """

    def __init__(self, recogniser: NemoRecogniser, mode: str = "full_graph") -> None:
        loaded: Any = recogniser._loaded
        self.decode = loaded._decode
        self.loop = self.decode._loop
        self.computer = computer = self.loop._computer
        self.captures: list[tuple[int, int]] = []
        self.max_rows = 10**9
        self.failing: BaseException | None = None
        self.fails_at = "warm-up"
        self.memory: FakeMemory | None = None
        computer.max_symbols = computer.max_symbols or 10
        computer.allow_cuda_graphs = True
        computer.cuda_graphs_mode = computer.CudaGraphsMode(mode)
        computer._warmup_for_cuda_graphs = lambda: self._fail("warm-up")
        computer._full_graph_compile = self._compile_full
        computer._partial_graphs_compile = self._compile_parts
        eager = computer.torch_impl

        def call(x: Any, out_len: Any, prev_batched_state: Any = None, multi_biasing_ids: Any = None) -> Any:
            run = eager if computer.cuda_graphs_mode is None else computer.cuda_graphs_impl
            return run(x, out_len, prev_batched_state, multi_biasing_ids)

        self.decode._nemo.decoding.decoding_computer._computer = _Called(computer, call)

    def _fail(self, where: str) -> None:
        if where != self.fails_at:
            return
        if self.failing is not None:
            raise self.failing
        if self.computer.state.batch_size > self.max_rows:
            import torch

            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB (injected)")

    def _compile_full(self) -> None:
        self._fail("compile")
        self._note()
        self.computer.full_graph = FakeGraph(self.computer, self.memory)

    def _compile_parts(self) -> None:
        self._note()
        self.computer.separate_graphs = FakeSeparateGraphs(self.computer)

    def use_memory(self, *, pools: bool, checks: bool) -> FakeMemory:
        """Have graphs work in memory that is released with the cache."""
        self.memory = self.loop._memory = FakeMemory(pools=pools, checks=checks)
        return self.memory

    def _note(self) -> None:
        assert CAPTURES.locked(), "another thread may prepare a batch meanwhile"
        self.captures.append((self.computer.state.batch_size, self.computer.state.max_time))


class _Called:
    """The computer, called in another way: NeMo's own way asks whether the tensors are on a GPU."""

    def __init__(self, computer: Any, call: Any) -> None:
        self._computer = computer
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._computer, name)

    def __call__(self, x: Any, out_len: Any, **options: Any) -> Any:
        return self._call(x, out_len, **options)
