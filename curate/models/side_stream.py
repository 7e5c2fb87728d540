"""Prepares the next batch on a GPU while the model works on the one before: its copy, and what is computed of it first.

    staging thread   pad into a pinned buffer ─► copy ─► features          (the side stream)
    model's thread                                         └─► encoder ─► decoder      (the model's stream)

Events order both streams. The model's thread does not wait for the side stream; the staging thread waits for a buffer
whose copy is not done, and where `compute` itself asks the GPU for a number, as NeMo's normalisation of features does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

from curate.models.pinned_memory import PinnedRing

if TYPE_CHECKING:
    from curate.models.clip import Waveform
else:
    Waveform = Any

Tensors = tuple[Any, ...]

CAPTURES = Lock()
"""Held while a CUDA graph is captured in this process, and while a batch is prepared in another thread.

torch forbids two captures at the same time; and whatever another thread allocates, pins or copies meanwhile depends on
the mode of the capture, which libraries choose."""

_HIGH_PRIORITY = -1


class PreparedBatch:
    """Tensors of a batch that a side stream computes."""

    def __init__(self, torch: Any, device: Any, tensors: Tensors, ready: Any) -> None:
        self._torch = torch
        self._device = device
        self._tensors: Tensors | None = tensors
        self._ready = ready

    def take(self) -> Tensors:
        """Return the tensors, for use on the current stream, which waits for them; once.

        The allocator records that this stream uses them, so that it gives their memory to the next batch only when this
        stream is done with it.
        """
        tensors, self._tensors = self._tensors, None
        assert tensors is not None, "a prepared batch is taken once"
        stream = self._torch.cuda.current_stream(self._device)
        stream.wait_event(self._ready)
        for tensor in tensors:
            tensor.record_stream(stream)
        return tensors


class SideStream:
    """A stream for the next batch.

    Args:
        torch: the module.
        device: a `torch.device` of the kind `cuda`.
    """

    def __init__(self, torch: Any, device: Any) -> None:
        self._torch = torch
        self._device = device
        # Of this priority, because torch deals out its streams in turn, those of captures among them: memory that
        # belongs to the stream of a captured loop's body must not become a batch's.
        self._stream: Any = torch.cuda.Stream(device=device, priority=_HIGH_PRIORITY)
        self._ring = PinnedRing(torch)

    @property
    def pinned_bytes(self) -> int:
        """The pinned memory that is kept."""
        return self._ring.size_bytes

    def prepare(self, signals: Sequence[Waveform], compute: Callable[[Any, Any], Tensors]) -> PreparedBatch | None:
        """Copy a batch to the GPU and start `compute(padded, lengths)` there; None: the batch is too large for that.

        Args:
            signals: float32 arrays of shape (samples,).
            compute: is called on the side stream with (B, T) samples and (B,) lengths, both on the GPU.

        Raises:
            RuntimeError: as torch raises it, out of memory among others.
        """
        if not self._ring.holds(signals):
            return None
        torch, cuda = self._torch, self._torch.cuda
        with CAPTURES:
            slot = self._ring.take()
            padded, lengths = slot.fill(signals)
            with cuda.stream(self._stream), torch.inference_mode():
                slot.copied = cuda.Event(blocking=True)
                try:
                    here = [one.to(self._device, non_blocking=True) for one in (padded, lengths)]
                finally:  # one of the two may be under way
                    slot.copied.record(self._stream)
                tensors = compute(*here)
                ready = cuda.Event()
                ready.record(self._stream)
        return PreparedBatch(torch, self._device, tensors, ready)

    def close(self) -> None:
        """Wait for what has been started, and release the pinned memory."""
        self._stream.synchronize()
        self._ring.close()
