"""Files behind a network: read by range, ahead of the reader where it reads forward, and never whole without need."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from curate.storage.file import Identity, StoredFile

HEAD_BYTES = 1 << 16
"""How much of an object is read when it is opened: the header of most recordings, in the one request that opens it."""

_LEAST_BYTES, _MOST_BYTES = 1 << 14, 1 << 22
_MEMBER_BYTES = 1 << 20
_HELD_BLOCKS = 3


class RemoteFile(StoredFile):
    """An object in a store, read by range.

    Every request costs a round trip, so a read that continues the last one asks for twice as much, up to 4 MiB; any
    other asks for little more than it needs.

    Args:
        identity: of the object.
        fetch: returns the bytes from a place up to another one, as the object was when it was opened. It raises an
            `OSError` when they cannot be read, or the object has changed.
        head: the first bytes, if they were read already.
        least_bytes: the size of the first request.
    """

    def __init__(
        self,
        identity: Identity,
        fetch: Callable[[int, int], bytes],
        head: bytes = b"",
        least_bytes: int = _LEAST_BYTES,
    ) -> None:
        super().__init__(identity)
        self._fetch = fetch
        self._head = head
        self._least_bytes = least_bytes
        self._ahead_bytes = least_bytes
        self._next = len(head)
        self._held: deque[tuple[int, bytes]] = deque(maxlen=_HELD_BLOCKS)
        self._lock = threading.Lock()

    def pread(self, length: int, offset: int) -> bytes:
        stop = min(self.size, offset + max(0, length))
        parts: list[bytes] = []
        with self._lock:
            while offset < stop:
                start, block = self._block_at(offset, stop)
                parts.append(block[offset - start : stop - start])
                offset = start + len(block)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def part(self, identity: Identity, offset: int, on_error: Callable[[], None]) -> RemoteFile:
        """Return a part of this file, such as a member of a tar, as a file of its own; nothing behind it is read.

        Args:
            identity: of the part, with its size.
            offset: where it begins in this file.
            on_error: called when a range cannot be read.
        """

        def fetch(start: int, stop: int) -> bytes:
            try:
                return self._fetch(offset + start, offset + stop)
            except OSError:
                on_error()
                raise

        return RemoteFile(identity, fetch, least_bytes=_MEMBER_BYTES)

    def close(self) -> None:
        with self._lock:  # other threads may be reading: the file stays usable
            self._held.clear()
        super().close()

    def _block_at(self, offset: int, stop: int) -> tuple[int, bytes]:
        """Return a block that begins at or before a place and reaches behind it, with its own place."""
        if offset < len(self._head):
            return 0, self._head
        for start, block in self._held:
            if start <= offset < start + len(block):
                return start, block
        is_forward = offset == self._next
        self._ahead_bytes = min(2 * self._ahead_bytes, _MOST_BYTES) if is_forward else self._least_bytes
        end = min(self.size, max(stop, offset + self._ahead_bytes))
        block = self._fetch(offset, end)
        if len(block) != end - offset:
            raise OSError(f"{self.identity.uri}: {end - offset} bytes at {offset} were asked for, {len(block)} came")
        self._next = end
        self._held.append((offset, block))
        return offset, block
