"""How driver and worker process talk: frames on a socket, each of a kind, about a batch, with a pickled payload.

Kind and batch stand outside the pickle: a message that cannot be read still says what it is about, and can be passed on
by whoever cannot read it.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from typing import TypeAlias

_HEADER = struct.Struct("<QQB")

CHUNK = 1 << 18
"""So many bytes are read at once."""


class FrameType(enum.IntEnum):
    """What a frame says; the payload is in brackets."""

    PATH = 1  # driver → worker: where modules are found (a list of folders)
    PARCEL = 2  # the stages (`WorkerPayload`)
    WORK = 3  # a batch (`BatchTask`)
    END = 4  # there is no more work
    READY = 5  # worker → driver: the stages are set up
    PART = 6  # the outcome of some or all records of a batch (`PartialResult`, `Whole`)
    DONE = 7  # the batch is done
    UNREADABLE = 8  # the batch could not be unpickled (a text)
    FAILED = 9  # trouble that is no record's (its text, its traceback)
    LOG = 10  # a log line (its level, the level's number, its text)


Frame: TypeAlias = tuple[FrameType, int, bytes]


def header(kind: FrameType, number: int = 0, size: int = 0) -> bytes:
    """Return what goes before a payload of `size` bytes about the batch `number`."""
    return _HEADER.pack(size, number, kind)


def framed(kind: FrameType, payload: bytes = b"", number: int = 0) -> bytes:
    """Return a frame."""
    return header(kind, number, len(payload)) + payload


class Frames:
    """Cuts what has been received into frames."""

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
