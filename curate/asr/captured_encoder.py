"""Runs the encoder for small batches in CUDA graphs, because starting its kernels takes longer than they run.

A graph works on one shape. So a batch is padded up to the next of a few shapes, rows and frames, and what the padding
gives is cut off. Padded frames are masked by the encoder, as they are in every batch of clips of unequal length, so
outputs equal eager ones to rounding. A shape is captured when it is met for the second time; larger batches, further
shapes and shapes whose graph does not fit into memory run eagerly, and so does everything after a capture that failed
for another reason.

Each graph reads the encoder's weights and tables of positions where they were when it was captured. NeMo replaces its
table of positions for a longer batch; so each graph keeps those that it was captured with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from attrs import frozen
from loguru import logger

from curate.asr.capture_unwinding import interrupted_by_oom
from curate.models.side_stream import CAPTURES

ROWS = (1, 2, 4, 8, 16, 32, 64)
"""The rows of graphs; larger batches keep the GPU busy by themselves."""

FRAME_STEP = 256
"""Feature frames are rounded up to multiples of this: 2.56 s with frames of 10 ms."""

MAX_FRAMES = 64 * 5 * FRAME_STEP
"""Feature frames of a whole graph: 64 rows of 12.8 s."""

MAX_GRAPHS = 8
"""A capture takes as long as several batches, so the shapes that are met most often should keep theirs."""

_WARM_UPS = 2

Encode = Callable[[Any, Any], tuple[Any, Any]]
"""Encodes (B, F, T) features with their (B,) lengths into (B, D, T') and their lengths."""


@frozen
class _Graph:
    """A captured encoder with the tensors that it reads and writes."""

    graph: Any
    features: Any
    frames: Any
    encoded: Any
    counts: Any
    kept: list[Any]


class CapturedEncoder:
    """The encoder, in CUDA graphs where a batch is small.

    Args:
        torch: the module.
        encoder: NeMo's encoder, on `device`; it has a `subsampling_factor`.
        device: a `torch.device` of the kind `cuda`.
        dtype: torch's number format of the encoder.
        max_bytes: the most memory that all graphs may take.
        max_graphs: the most graphs that are kept.
    """

    def __init__(
        self,
        torch: Any,
        encoder: Any,
        device: Any,
        dtype: Any,
        *,
        max_bytes: float = math.inf,
        max_graphs: int = MAX_GRAPHS,
    ) -> None:
        self._torch = torch
        self._encoder = encoder
        self._device = device
        self._dtype = dtype
        self._max_bytes = max_bytes
        self._max_graphs = max_graphs
        self._graphs: dict[tuple[int, int], _Graph] = {}
        self._met: set[tuple[int, int]] = set()
        self._is_full = False
        self._pool: Any = None  # of all graphs: they are replayed one after the other, and their outputs copied
        self._stream: Any = None  # of all captures: only on the same stream do they share the pool's memory
        self._bytes = 0
        self.is_on = hasattr(encoder, "subsampling_factor")
        """Whether shapes are captured at all."""

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The rows and frames of the graphs."""
        return sorted(self._graphs)

    @property
    def size_bytes(self) -> int:
        """The memory that the graphs take."""
        return self._bytes

    def __call__(self, features: Any, frames: Any) -> tuple[Any, Any]:
        """Encode a batch.

        Args:
            features: (B, F, T), on the device.
            frames: (B,) the valid frames of each row.

        Returns:
            The encoder's output, (B, D, T'), and the valid frames of each row.

        Raises:
            RuntimeError: as torch raises it; an error of a capture only where the context is broken.
        """
        shape = self._shape(int(features.shape[0]), int(features.shape[2]))
        captured = None if shape is None else self._graph(shape, features)
        if captured is None:
            return self._eager(features.to(self._dtype), frames)
        return self._replay(captured, features, frames)

    def close(self) -> None:
        """Release the graphs and their memory."""
        self._graphs.clear()
        self._pool = None
        self._bytes = 0

    def _shape(self, rows: int, frames: int) -> tuple[int, int] | None:
        """Return the shape of the graph for a batch; None: it is too large for one."""
        wanted = next((one for one in ROWS if one >= rows), None)
        if not self.is_on or wanted is None:
            return None
        rounded = FRAME_STEP * math.ceil(frames / FRAME_STEP)
        return (wanted, rounded) if wanted * rounded <= MAX_FRAMES else None

    def _graph(self, shape: tuple[int, int], like: Any) -> _Graph | None:
        """Return the graph of a shape, captured if need be; None: this batch runs eagerly."""
        found = self._graphs.get(shape)
        if found is not None or self._is_full:
            return found
        if shape not in self._met:
            self._met.add(shape)
            return None
        # As the capture does itself: what it releases must not hide what it takes.
        self._torch.cuda.empty_cache()
        before = self._reserved_bytes()
        try:
            captured = self._captured(shape, int(like.shape[1]))
        except Exception as error:  # noqa: BLE001 (whatever fails there, the batch can be encoded without)
            # What a capture forbids is reported in the words of a broken context, which this call distinguishes.
            self._torch.cuda.synchronize(self._device)
            self._end_allocation()
            self._give_up(error)
            return None
        self._bytes += max(0, self._reserved_bytes() - before)
        self._graphs[shape] = captured
        self._is_full = len(self._graphs) >= self._max_graphs or self._bytes >= self._max_bytes
        return captured

    def _captured(self, shape: tuple[int, int], bands: int) -> _Graph:
        torch, cuda = self._torch, self._torch.cuda
        rows, frames = shape
        features = torch.zeros((rows, bands, frames), dtype=self._dtype, device=self._device)
        counts = torch.full((rows,), frames, dtype=torch.int64, device=self._device)
        if self._pool is None:
            self._pool = cuda.graph_pool_handle()
        if self._stream is None:
            self._stream = cuda.Stream(self._device)
        stream = self._stream
        stream.wait_stream(cuda.current_stream(self._device))
        graph = cuda.CUDAGraph()
        # Whatever fails in here, the outer context makes the model's stream current again.
        with CAPTURES, cuda.stream(stream):
            for _ in range(_WARM_UPS):  # libraries make their plans and workspaces, NeMo its tables
                self._eager(features, counts)
            with cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                encoded, found = self._eager(features, counts)
        cuda.current_stream(self._device).wait_stream(stream)
        kept = [*self._encoder.parameters(), *self._encoder.buffers()]
        return _Graph(graph, features, counts, encoded, found, kept)

    def _replay(self, captured: _Graph, features: Any, frames: Any) -> tuple[Any, Any]:
        rows, length = int(features.shape[0]), int(features.shape[2])
        most = int(captured.features.shape[2])
        captured.features[:rows, :, :length].copy_(features)
        captured.features[:rows, :, length:].zero_()  # of the batch before
        captured.frames[:rows].copy_(frames)
        # Rows that the batch does not have are as long as the graph: attention over no frame at all is not a number.
        captured.features[rows:].zero_()
        captured.frames[rows:].fill_(most)
        captured.graph.replay()
        # Never less than the longest row has: an encoder's frame begins every `subsampling_factor` frames.
        left = int(captured.encoded.shape[2]) - (most - length) // int(self._encoder.subsampling_factor)
        return captured.encoded[:rows, :, :left].clone(), captured.counts[:rows].clone()

    def _eager(self, features: Any, frames: Any) -> tuple[Any, Any]:
        encoded, counts = self._encoder(audio_signal=features, length=frames)[:2]
        return encoded, counts

    def _give_up(self, error: Exception) -> None:
        """Capture nothing any more: with no memory left the graphs in place stay, otherwise none is trusted."""
        self._is_full = True
        out_of_memory = interrupted_by_oom(error) is not None
        if not out_of_memory:
            self.close()
        logger.warning(
            "the encoder's CUDA graphs cannot be captured ({}: {}); {}",
            type(error).__name__,
            (str(error).strip().splitlines() or ["no message"])[0],
            "those in place are kept" if out_of_memory else "it runs without, which is slower for small batches",
        )

    def _end_allocation(self) -> None:
        """Have the allocator leave the pool of a capture that was invalidated.

        torch does that only after a capture that ended properly. As long as it believes in a capture, it empties no
        cache and reclaims no tensor that another stream has used.
        """
        end: Any = getattr(self._torch._C, "_cuda_endAllocateToPool", None)  # noqa: SLF001 (torch has no public way)
        if end is None or self._pool is None:
            return
        index = self._torch.cuda.current_device() if self._device.index is None else self._device.index
        with suppress(RuntimeError):  # the capture ended properly, and with it the allocation
            end(index, self._pool)

    def _reserved_bytes(self) -> int:
        return int(self._torch.cuda.memory_reserved(self._device))
