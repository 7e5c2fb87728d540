"""How driver and worker process talk: frames on a socket, each a pickled message under the number of its batch.

The number stands outside the pickle, so that a message which cannot be read still says which batch it is of.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator
from typing import Any

_HEADER = struct.Struct("<QQ")

CHUNK = 1 << 18
"""So many bytes are read at once."""


def frame(message: Any, number: int = 0) -> bytes:
    """Return a message as a frame.

    Raises:
        Exception: whatever the pickling of a stranger's value raises.
    """
    payload = pickle.dumps(message, 5)
    return header(len(payload), number) + payload


def header(size: int = 0, number: int = 0) -> bytes:
    """Return what goes before a payload of `size` bytes. Without a payload it is a frame by itself, which tells a worker
    that there is no more work, and the driver that a batch is done.
    """
    return _HEADER.pack(size, number)


class Frames:
    """Cuts what has been received into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, received: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
        """Yield the number and the payload of every frame that is now complete."""
        self._buffer += received
        start, end = 0, len(self._buffer)
        while end - start >= _HEADER.size:
            size, number = _HEADER.unpack_from(self._buffer, start)
            if end - start - _HEADER.size < size:
                break
            start += _HEADER.size
            yield number, bytes(self._buffer[start : start + size])
            start += size
        del self._buffer[:start]
