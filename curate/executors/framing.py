"""Frames on the socket between driver and worker process: a type, the number of a batch, and a pickled payload.

Type and number stand outside the pickle: a message that cannot be unpickled still names its batch, and an actor can
pass it on unread.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from typing import TypeAlias

_HEADER = struct.Struct("<QQB")

CHUNK = 1 << 18
"""Bytes per read."""


class FrameType(enum.IntEnum):
    """The types of a frame; the payload is in brackets."""

    PATH = 1  # driver → worker: where modules are found (a list of folders)
    PAYLOAD = 2  # the stages (`WorkerPayload`)
    TASK = 3  # a batch (`BatchTask`)
    END = 4  # no more batches follow
    READY = 5  # worker → driver: the stages are set up
    RESULT = 6  # the outcome of some or all records of a batch (`PartialResult`)
    DONE = 7  # the batch is done
    UNREADABLE = 8  # the batch could not be unpickled (the reason)
    FAILED = 9  # a failure that no record caused (message, traceback)
    LOG = 10  # a log line (level, the level's number, text)


Frame: TypeAlias = tuple[FrameType, int, bytes]


def header(kind: FrameType, number: int = 0, size: int = 0) -> bytes:
    """Return the header of a payload of `size` bytes about the batch `number`."""
    return _HEADER.pack(size, number, kind)


def framed(kind: FrameType, payload: bytes = b"", number: int = 0) -> bytes:
    """Return a frame."""
    return header(kind, number, len(payload)) + payload


class Frames:
    """Cuts received bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, received: bytes) -> Iterator[Frame]:
        """Yield every frame that is now complete."""
        self._buffer += received
        start, end = 0, len(self._buffer)
        view = memoryview(self._buffer)
        try:
            while end - start >= _HEADER.size:
                size, number, kind = _HEADER.unpack_from(self._buffer, start)
                if end - start - _HEADER.size < size:
                    break
                start += _HEADER.size
                payload = bytes(view[start : start + size])
                start += size
                yield _KINDS[kind], number, payload
        finally:
            view.release()
            del self._buffer[:start]


_KINDS = {int(kind): kind for kind in FrameType}
