"""Blocks that arrive one after the other, joined to one array without being held twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from curate.audio.sndfile import Integers, Samples

Block = TypeVar("Block", "Samples", "Integers")

_MOST_RESERVED_BYTES = 512 * 2**20


class BlockBuffer(Generic[Block]):
    """Joins blocks of samples or of frames along their first axis.

    Args:
        expected: how many there will probably be, from a header. The room for them is reserved and not touched before
            it is filled, and a figure of more than 512 MB is disregarded; more or fewer may come. None: unknown.
    """

    def __init__(self, expected: int | None) -> None:
        self._expected = expected
        self._length = 0
        self._parts: list[Block] = []
        self._array: Any = None

    def append(self, block: Block) -> None:
        """Add a block; a single one is not copied."""
        self._length += len(block)
        if self._array is None and self._parts and self._expected is not None:
            self._reserve(block, self._expected)
        array = self._array
        if array is None:
            self._parts.append(block)
        elif self._length <= len(array):
            array[self._length - len(block) : self._length] = block
        else:
            self._parts = [array[: self._length - len(block)], block]
            self._array, self._expected = None, None

    def joined(self) -> Block | None:
        """Return all blocks as one array; None when there were none."""
        import numpy as np

        if self._array is not None:
            unused = len(self._array) - self._length
            return self._array[: self._length].copy() if unused > self._length else self._array[: self._length]
        if not self._parts:
            return None
        joined: Any = self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)
        return joined

    def _reserve(self, block: Block, expected: int) -> None:
        import numpy as np

        row_bytes = block.nbytes // max(1, len(block))
        if expected < self._length or expected * row_bytes > _MOST_RESERVED_BYTES:
            self._expected = None
            return
        array = np.empty((expected, *block.shape[1:]), block.dtype)
        begin = 0
        for part in self._parts:
            array[begin : begin + len(part)] = part
            begin += len(part)
        self._array, self._parts = array, []
