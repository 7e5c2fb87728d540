"""Sorts more numbers than fit into memory, part by part: equal ones are in one part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

HELD = 1 << 19
"""Numbers of 8 bytes that wait in memory before they are written."""

SORTED = 1 << 20
"""Numbers that are sorted together, more or less."""

FILES = 64

_MIXER = np.uint64(0x9E3779B97F4A7C15)


class PairFiles:
    """Numbers that each stand for a pair, divided among files by a hash. Few numbers stay in memory.

    Args:
        scratch: a folder for temporary files.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._held: list[NDArray[np.uint64]] = [np.empty(0, np.uint64)]
        self._held_count = 0
        self._files: dict[int, IO[bytes]] = {}
        self._counts = [0] * FILES
        self._closed = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.close()

    def append(self, pairs: NDArray[np.uint64]) -> None:
        """Add numbers, which may be repeated."""
        self._held.append(pairs)
        self._held_count += len(pairs)
        if self._held_count >= HELD:
            self._write()

    def sorted_parts(self) -> Iterator[NDArray[np.uint64]]:
        """Yield all numbers, sorted in each array; equal ones are in the same array."""
        if not self._files:
            if self._held_count:
                yield np.sort(np.concatenate(self._held))
            return
        self._write()
        for number, file in self._files.items():
            passes = -(-self._counts[number] // SORTED)
            for taken in range(passes):
                found = [block[_hashed(block) // FILES % passes == taken] for block in _blocks(file)]
                if any(map(len, found)):
                    yield np.sort(np.concatenate(found))
            file.truncate(0)

    def _write(self) -> None:
        pairs = np.concatenate(self._held)
        self._held, self._held_count = [np.empty(0, np.uint64)], 0
        part = _hashed(pairs) % FILES
        order = np.argsort(part, kind="stable")
        begin = 0
        for number, count in enumerate(np.bincount(part.astype(np.int64), minlength=FILES).tolist()):
            if count:
                self._file(number).write(pairs[order[begin : begin + count]].data)
                self._counts[number] += count
                begin += count

    def _file(self, number: int) -> IO[bytes]:
        if number not in self._files:
            path = self._scratch / f"pairs-{number}"
            self._closed.callback(path.unlink)
            self._files[number] = self._closed.enter_context(path.open("w+b"))
        return self._files[number]


def _blocks(file: IO[bytes]) -> Iterator[NDArray[np.uint64]]:
    file.seek(0)
    while block := file.read(8 * HELD):
        yield np.frombuffer(block, np.uint64)


def _hashed(pairs: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return pairs * _MIXER >> np.uint64(40)
