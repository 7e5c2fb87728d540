"""A ring of pinned buffers, in which batches are padded before a GPU copies them.

A GPU copies asynchronously from pinned memory alone, and pinning is slow. So a few buffers are pinned once, and batches
take them in turn: a buffer belongs to its batch until the copy out of it is done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.models.clip import Waveform
else:
    Waveform = Any

SLOTS = 2
"""The buffer that is filled, and the one that is copied."""

MAX_SLOT_BYTES = 2**29
"""The size of the largest buffer: two hours at 16 kHz. A larger batch is not padded in the ring."""

_LEAST_SAMPLES = 2**18
_LEAST_ROWS = 64


class PinnedSlot:
    """One buffer of the ring: a padded batch, and the length of each row."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._samples: Any = None
        self._lengths: Any = None
        self.copied: Any = None
        """The event behind the copy out of this buffer; None: it has not been copied yet."""

    @property
    def size_bytes(self) -> int:
        """The pinned memory of this buffer."""
        return sum(0 if one is None else one.numel() * one.element_size() for one in (self._samples, self._lengths))

    def wait(self) -> None:
        """Wait until the last batch has been copied."""
        if self.copied is not None:
            self.copied.synchronize()
            self.copied = None

    def fill(self, signals: Sequence[Waveform]) -> tuple[Any, Any]:
        """Return `signals` as one (B, T) tensor with zeros behind the shorter ones, and their lengths in samples, (B,).

        Both are views of the buffer, which grows to the next size class where it is too small.
        """
        torch = self._torch
        lengths = [len(signal) for signal in signals]
        rows, longest = len(lengths), max(lengths)
        self._samples = self._grown(self._samples, rows * longest, _LEAST_SAMPLES, torch.float32)
        self._lengths = self._grown(self._lengths, rows, _LEAST_ROWS, torch.int64)
        padded = self._samples[: rows * longest].view(rows, longest)
        # numpy copies in this thread alone: torch would start a team of threads, which spin after each row.
        for row, signal in zip(padded.numpy(), signals, strict=True):
            row[: len(signal)] = signal
            row[len(signal) :] = 0
        counts = self._lengths[:rows]
        counts.numpy()[:] = lengths
        return padded, counts

    def _grown(self, buffer: Any, count: int, least: int, dtype: Any) -> Any:
        if buffer is not None and buffer.numel() >= count:
            return buffer
        return self._torch.empty(size_class(count, least), dtype=dtype, pin_memory=True)


class PinnedRing:
    """A few pinned buffers that batches take in turn. For one thread at a time.

    Args:
        torch: the module.
        slots: the number of buffers.
        max_slot_bytes: the size of the largest buffer.
    """

    def __init__(self, torch: Any, slots: int = SLOTS, max_slot_bytes: int = MAX_SLOT_BYTES) -> None:
        self._slots = [PinnedSlot(torch) for _ in range(slots)]
        self._next = 0
        self._max_samples = max_slot_bytes // 4

    @property
    def size_bytes(self) -> int:
        """The pinned memory of all buffers."""
        return sum(slot.size_bytes for slot in self._slots)

    def holds(self, signals: Sequence[Waveform]) -> bool:
        """Return whether a batch is small enough for a buffer."""
        count = len(signals) * max(map(len, signals))
        return size_class(count, _LEAST_SAMPLES) <= self._max_samples

    def take(self) -> PinnedSlot:
        """Return the next buffer, as soon as the batch before has been copied out of it."""
        slot = self._slots[self._next]
        slot.wait()
        self._next = (self._next + 1) % len(self._slots)
        return slot

    def close(self) -> None:
        """Wait for the copies, and release the buffers."""
        slots, self._slots = self._slots, []
        for slot in slots:
            slot.wait()


def size_class(count: int, least: int) -> int:
    """Return the number of elements of a buffer for `count`: a power of two, so that a few batches set its size."""
    return max(least, 2 ** math.ceil(math.log2(max(1, count))))
