"""CUDA graphs of NeMo's decoder, on the CPU: what torch and the driver would do is replaced, NeMo's own code runs.

A fake graph replays the decoding loop over the buffers that it was captured for, as a real one does, whatever buffers
the decoder has by now. A limit on their size stands for the memory of a GPU.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from curate.asr import NemoRecogniser


class FakeGraph:
    """A captured decoding loop, bound to the buffers that it was captured for."""

    def __init__(self, computer: Any) -> None:
        self._computer = computer
        self._state = computer.state

    def replay(self) -> None:
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
        self.computer.full_graph = FakeGraph(self.computer)

    def _compile_parts(self) -> None:
        self._note()
        self.computer.separate_graphs = FakeSeparateGraphs(self.computer)

    def _note(self) -> None:
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
