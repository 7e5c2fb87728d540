"""Decoding with NeMo's label-looping decoder in CUDA graphs that are as large as needed, and never stale.

NeMo captures its decoding loop for one size of buffers: a number of rows (utterances) and of encoder frames. Four
traits of that code determine this module:

- It replaces its buffers before it captures. An error in between leaves the old graph, which replays over buffers that
  nothing reads: every later batch that fits decodes to empty texts, without an error.
- It captures anew for each batch with more rows, or more frames, than the buffers have, and takes that batch's size:
  batches that are alternately wide and long capture every time.
- Each replay works on all rows of the buffers, so buffers for the largest batch slow down all others: 64 records of
  20 s took 1.6 times as long in 256 rows, and 2.1 times as long in 512, as in 64. Frames that are not used cost memory
  alone.
- It keeps one set of buffers, and its graph, as plain attributes.

A fifth is that a graph does not own the memory that its loops work in: see `curate.asr.graph_memory`.

So sizes are rounded up in steps of a third to a half; NeMo's decoder is asked what is captured, instead of remembering
it here; and after any exception everything captured is dropped. A graph that is too small is replaced by a larger one.

Several graphs, one for each size of batch, would spare replays of rows that a batch does not have. `max_graphs` allows
them, but only one is kept by default: on an H200 (28 November 2026, torch 2.11, NeMo 3.0.0) decoding with several ended
in an illegal memory access. Each capture empties torch's cache, so that by `curate.asr.graph_memory` the graphs before
it lost the memory of their loops; whether that is the whole cause has not been measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any

from attrs import frozen
from loguru import logger

from curate.asr.capture_unwinding import interrupted_by_oom, unwind_captures
from curate.asr.graph_memory import GraphMemory, allocating_bodies_from
from curate.gpu_errors import GpuFault, classify_gpu_error, is_capture_error
from curate.models.side_stream import CAPTURES
from curate.models.torch_device import keep_in_broken_context

ROWS = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""The sizes of graphs. More rows than these gain nothing."""

MAX_ROWS = ROWS[-1]
"""Rows of the largest graph; a larger batch is decoded in slices."""

_FRAME_STEP = 375
"""Frames are rounded up to multiples of this, the least that NeMo captures: 30 s with frames of 80 ms."""

_REMEDY = (
    "conditional nodes in CUDA graphs need a `cuda-bindings` release that matches the driver: "
    "`pip install 'cuda-bindings<13'` for drivers of CUDA 12"
)

Decode = Callable[[Any, Any], list[Any]]
"""Decodes (B, D, T) encoder outputs with their (B,) lengths into B hypotheses."""


@frozen
class _Captured:
    """NeMo's buffers, and the graphs that were captured for them."""

    state: Any
    graphs: Any
    size_bytes: int
    pool: Any
    """What the loops' bodies allocate from; None: torch's cache."""
    released_bytes: int
    """What the allocator had released when these were captured."""

    @property
    def frames(self) -> int:
        return int(self.state.max_time)


class CapturedLoop:
    """The decoding loop of a transducer, with its CUDA graphs where NeMo can capture any.

    Args:
        computer: NeMo's label-looping computer; falling back to slower graphs is taken over from it.
        max_rows: the maximum number of rows of one slice.
        max_bytes: the most memory that the buffers of all graphs may take; None: no limit. A batch that needs larger
            ones even for the fewest rows is decoded without graphs.
        max_graphs: the maximum number of graphs that are kept; see above.
        memory: what the graphs' loops work in; None: torch's allocator.
    """

    def __init__(
        self,
        computer: Any,
        *,
        max_rows: int = MAX_ROWS,
        max_bytes: float | None = None,
        max_graphs: int = 1,
        memory: GraphMemory | None = None,
    ) -> None:
        self._computer = computer
        self._memory = memory or GraphMemory(import_module("torch"))
        self._rows = max_rows
        self._max_bytes = math.inf if max_bytes is None else max_bytes
        self._max_graphs = max_graphs
        self._pool: dict[int, _Captured] = {}  # by rows, the one used last at the end
        self._falls_back = bool(computer.cuda_graphs_allow_fallback)
        computer.cuda_graphs_allow_fallback = False
        if self.mode == "full_graph":
            unwind_captures(computer)
        if self.mode == "no_while_loops":
            logger.warning("the decoder runs in CUDA graphs without loops, which is slower; {}", _REMEDY)

    @property
    def mode(self) -> str | None:
        """`full_graph`, `no_while_loops` (slower), or None: no graphs."""
        mode = self._computer.cuda_graphs_mode
        return None if mode is None else str(mode.value)

    @property
    def capacity(self) -> tuple[int, int]:
        """The rows and frames that fit into the buffers in place; (0, 0): none are."""
        state = self._computer.state
        return (0, 0) if state is None else (int(state.batch_size), int(state.max_time))

    def is_sound(self) -> bool:
        """Return whether the buffers and graphs in place were captured together, or there are none."""
        state, graphs = self._pair()
        return state is None or any(one.state is state and one.graphs is graphs for one in self._pool.values())

    def reset(self) -> None:
        """Drop everything captured; the next slice captures anew.

        Raises:
            RuntimeError: the CUDA context is broken; then everything captured is kept.
        """
        self._drop(None)

    def _drop(self, pool: Any) -> None:
        """Drop everything captured, and the pool of a capture that is not in place; see `reset`."""
        computer = self._computer
        states = [one.state for one in self._pool.values()] + [computer.state]
        try:
            for device in {state.device for state in states if state is not None}:
                self._memory.finish_replays(device)
        except RuntimeError as error:
            if not is_capture_error(error):  # of a capture that is still open, and nothing is replayed
                keep_in_broken_context(*self._pool.values(), *self._pair(), pool)
                raise
        self._pool.clear()
        computer.reset_cuda_graphs_state()

    def decode(self, decode: Decode, encoded: Any, lengths: Any) -> list[Any]:
        """Decode a batch in slices, each in captured graphs where there are any.

        Args:
            decode: runs NeMo's decoding, and with it the computer.
            encoded: (B, D, T) the encoder's output.
            lengths: (B,) the valid frames of each row.

        Raises:
            RuntimeError: as torch raises it; whatever was captured has been dropped.
        """
        hypotheses: list[Any] = []
        while len(hypotheses) < len(encoded):
            rest = slice(len(hypotheses), None)
            if self.mode is None:
                return hypotheses + decode(encoded[rest], lengths[rest])
            size = self._choose(len(encoded) - len(hypotheses), int(encoded.shape[2]), encoded)
            if size is None:
                with self._without_graphs():
                    return hypotheses + decode(encoded[rest], lengths[rest])
            rows = slice(len(hypotheses), len(hypotheses) + size)
            hypotheses += self._decode_slice(decode, encoded[rows], lengths[rows], size) or []
        return hypotheses

    def prepare(self, decode: Decode, items: int, frames: int, like: Any) -> bool:
        """Capture the graph for batches of `items` rows of up to `frames` frames, if that has not been done.

        Args:
            decode: see `decode`.
            items: rows of the batch; those beyond the largest graph are decoded in slices.
            frames: encoder frames of the longest row.
            like: (1, D, 1) an encoder output, for its width, type and device.

        Returns:
            Whether anything was captured.
        """
        if self.mode is None:
            return False
        rows = self._choose(items, frames, like)
        if rows is None:
            logger.info("{} encoder frames are too long for CUDA graphs; such batches decode without", frames)
            return False
        if self._holds(rows, frames, like) and self.is_sound():
            return False
        encoded = like.new_zeros((rows, like.shape[1], frames))
        lengths = import_module("torch").ones(rows, dtype=import_module("torch").int64, device=like.device)
        self.decode(decode, encoded, lengths)
        return rows in self._pool

    def _choose(self, count: int, frames: int, like: Any) -> int | None:
        """Return the rows of the graph to use for a batch; None: no buffers may be large enough.

        That is the smallest that holds the batch. Where its buffers would take the place of others, a captured graph
        that is larger than needed, or up to half as large, is used, because a capture costs more than a slow replay.
        """
        longest = _rounded(frames, _FRAME_STEP)
        sizes = sorted({*(rows for rows in ROWS if rows < self._rows), self._rows})
        sizes = [rows for rows in sizes if self._bytes(rows, longest, like) <= self._max_bytes]
        if not sizes:
            return None
        wanted = _smallest(sizes, count)
        others = [one.size_bytes for rows, one in self._pool.items() if rows != wanted]
        takes_a_place = (
            len(others) >= self._max_graphs or sum(others) + self._bytes(wanted, longest, like) > self._max_bytes
        )
        if takes_a_place and not self._holds(wanted, frames, like):
            captured = sorted(rows for rows in self._pool if 2 * rows >= wanted and self._holds(rows, frames, like))
            if captured:
                return _smallest(captured, count)
        return wanted

    def _holds(self, rows: int, frames: int, like: Any) -> bool:
        """Return whether a graph of `rows` rows is captured, for at least `frames` frames, and has its memory."""
        captured = self._pool.get(rows)
        if captured is None or captured.frames < frames:
            return False
        return captured.released_bytes == self._memory.released_bytes(like.device)

    def _decode_slice(self, decode: Decode, encoded: Any, lengths: Any, rows: int) -> list[Any] | None:
        """Decode a slice in a graph of `rows` rows; None: the graphs have changed to a slower kind, try again.

        Raises:
            RuntimeError: as torch raises it. Where memory ran out inside a capture, that error is raised, and not the
                capture's complaint about it.
        """
        if not self.is_sound():
            logger.warning("the captured CUDA graphs do not belong to the decoder's buffers and are dropped")
            self.reset()
        count, frames = len(encoded), int(encoded.shape[2])
        captures = not self._holds(rows, frames, encoded)
        captured = self._pool.pop(rows, None)
        longest = _rounded(frames, _FRAME_STEP)
        size_bytes = self._bytes(rows, longest, encoded)
        if captured is not None and not captures:
            self._put_in_place(captured)
            self._pool[rows] = captured
        else:
            del captured
            self._put_in_place(None)
            self._make_room(size_bytes)
            functional = import_module("torch.nn.functional")
            encoded = functional.pad(encoded, (0, longest - frames, 0, 0, 0, rows - count))
            lengths = functional.pad(lengths, (0, rows - count))
        pool = self._memory.new_pool(encoded.device) if captures else None
        try:
            with CAPTURES if captures else nullcontext(), allocating_bodies_from(pool):
                hypotheses = decode(encoded, lengths)
        except BaseException as error:
            self._drop(pool)
            oom = interrupted_by_oom(error) if captures else None
            if oom is not None and oom is not error:
                raise oom from error.__cause__
            if not captures or not isinstance(error, Exception) or not self._degrade(error):
                raise
            return None
        if captures:
            state, graphs = self._pair()
            released = self._memory.released_bytes(encoded.device)
            self._pool[rows] = _Captured(state, graphs, size_bytes, pool, released)
        return hypotheses[:count]

    def _pair(self) -> tuple[Any, Any]:
        computer = self._computer
        return computer.state, computer.full_graph if self.mode == "full_graph" else computer.separate_graphs

    def _put_in_place(self, captured: _Captured | None) -> None:
        """Make NeMo use these buffers and graphs; None: it has none, and captures."""
        computer = self._computer
        if captured is None:
            computer.reset_cuda_graphs_state()
            return
        computer.state = captured.state
        name = "full_graph" if self.mode == "full_graph" else "separate_graphs"
        setattr(computer, name, captured.graphs)

    def _make_room(self, size_bytes: int) -> None:
        """Drop the graphs that have not been used for the longest time, until one of this size fits."""
        while self._pool and (
            len(self._pool) >= self._max_graphs
            or sum(one.size_bytes for one in self._pool.values()) + size_bytes > self._max_bytes
        ):
            del self._pool[next(iter(self._pool))]

    def _degrade(self, error: Exception) -> bool:
        """Switch to the next slower kind of graphs after a capture that failed; False: the error must be raised.

        Running out of memory and a broken context say nothing about the kind of graphs. What a capture forbids is
        reported in the words of a broken context.
        """
        fault = classify_gpu_error(error)
        is_of_the_kind = fault is None or (fault is GpuFault.BROKEN_CONTEXT and is_capture_error(error))
        if not self._falls_back or not is_of_the_kind:
            return False
        modes = self._computer.CudaGraphsMode
        was_full = self.mode == "full_graph"
        self._computer.cuda_graphs_mode = modes.NO_WHILE_LOOPS if was_full else None
        cause = error.__cause__ or error
        slower = "without loops" if was_full else "not at all"
        logger.warning(
            "the decoder's CUDA graphs cannot be captured ({}: {}) and are used {}, which is slower; {}",
            type(cause).__name__,
            (str(cause).strip().splitlines() or ["no message"])[0],
            slower,
            _REMEDY,
        )
        return True

    @contextmanager
    def _without_graphs(self) -> Generator[None]:
        """Have NeMo decode eagerly in here; what is captured stays."""
        mode, self._computer.cuda_graphs_mode = self._computer.cuda_graphs_mode, None
        try:
            yield
        finally:
            self._computer.cuda_graphs_mode = mode

    def _bytes(self, rows: int, frames: int, encoded: Any) -> int:
        """Return the memory of buffers: the padded encoder output, two of its projection, and hypotheses twice."""
        computer = self._computer
        parameter = next(computer.joint.parameters())
        projected = int(getattr(computer.joint, "joint_hidden", encoded.shape[1])) * parameter.element_size()
        token = 8 + 8 + 8 + (parameter.element_size() if computer.preserve_step_confidence else 0)
        each = int(encoded.shape[1]) * encoded.element_size() + 2 * projected + 2 * (computer.max_symbols or 10) * token
        return rows * frames * each


class TrimmedComputer:
    """NeMo's label-looping computer, whose hypotheses are cut to what is in use before they are copied to the CPU.

    Hypotheses come in buffers for the largest batch with the most symbols a frame may have: hundreds of megabytes, of
    which a batch fills a few per cent. The state after the last frame, which only streaming needs, is not split into
    one object for each row.
    """

    def __init__(self, computer: Any) -> None:
        self._computer = computer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._computer, name)

    def __call__(self, x: Any, out_len: Any, **options: Any) -> tuple[Any, Any]:
        found, state = self._computer(x=x, out_len=out_len, **options)
        if not found.with_blank_steps:
            rows = len(x)
            longest = int(found.current_lengths[:rows].max())
            for name in ("transcript", "timestamps", "token_durations", "step_confidence"):
                values = getattr(found, name, None)
                if values is not None:
                    setattr(found, name, values[:rows, :longest])
            found.current_lengths = found.current_lengths[:rows]
            found.scores = found.scores[:rows]
        return found, state

    def split_batched_state(self, state: Any) -> list[None]:
        return [None] * len(state.labels)


def _smallest(sizes: list[int], count: int) -> int:
    """Return the smallest of ascending `sizes` that holds `count` rows, or the largest."""
    return next((rows for rows in sizes if rows >= count), sizes[-1])


def _rounded(number: int, step: int) -> int:
    return step * math.ceil(number / step)
