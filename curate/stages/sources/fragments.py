"""Reads several sources at once: each is cut into fragments of records, which threads read ahead."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, islice

from curate.records import ID, Failed, Record, string_bytes
from curate.stage import Source

_HELD_RECORDS = 32_768
_HELD_BYTES = 64 * 1024 * 1024
"""The records, and the bytes of their strings, that all partitions together hold about at most."""

_MOST_RECORDS = 64
"""Small, so that the fragments of dozens of partitions stay in the processor's cache."""

_FEWEST_RECORDS = 4


class FragmentReader:
    """The records of one source, a fragment at a time, read ahead by a pool of threads.

    What it yields depends on the source alone, never on the threads.

    Args:
        source: read from its first record on.
        pool: the threads; None: fragments are read where they are asked for.
        prefetch: the number of fragments that are read ahead.
        partitions: the number of readers that share the memory.
        repeats: begin again at the end, without rows that are not records, and with ids `<id>#2`, `<id>#3` and so on.
    """

    def __init__(
        self, source: Source, pool: ThreadPoolExecutor | None, *, prefetch: int, partitions: int, repeats: bool
    ) -> None:
        self._source = source
        self._pool = pool
        self._prefetch = prefetch
        self._repeats = repeats
        held = max(1, partitions * (prefetch + 1))
        self._most = min(_MOST_RECORDS, max(_FEWEST_RECORDS, _HELD_RECORDS // held))
        self._most_bytes = _HELD_BYTES // held
        self._lock = threading.Lock()
        self._ready: deque[list[Record | Failed]] = deque()
        self._asked: deque[Future[None]] = deque()
        self._records: Iterator[Record | Failed] | None = None
        # plugins are looked up through a context variable, which threads do not inherit
        self._context = contextvars.copy_context()

    def __iter__(self) -> Iterator[Record | Failed]:
        while fragment := self._fragment():
            yield from fragment

    def close(self) -> None:
        """Close the files, once no thread reads."""
        with self._lock:
            close = getattr(self._records, "close", None)
            if close is not None:
                close()

    def _fragment(self) -> list[Record | Failed]:
        """Return the next fragment; an empty one is the end."""
        if self._pool is None:
            self._read()
            return self._ready.popleft()
        while len(self._asked) <= self._prefetch:
            self._asked.append(self._pool.submit(self._read))
        self._asked.popleft().result()
        return self._ready.popleft()

    def _read(self) -> None:
        """Read one fragment; the order of fragments is that in which the lock is held, whichever thread holds it."""
        with self._lock:
            self._ready.append(self._context.run(self._taken))

    def _taken(self) -> list[Record | Failed]:
        if self._records is None:
            self._records = self._passes() if self._repeats else iter(self._source.read())
        taken: list[Record | Failed] = []
        size = 0
        for item in islice(self._records, self._most):
            taken.append(item)
            size += string_bytes(item.record if isinstance(item, Failed) else item)
            if size >= self._most_bytes:
                break
        return taken

    def _passes(self) -> Iterator[Record | Failed]:
        found = False
        for item in self._source.read():
            found = found or not isinstance(item, Failed)
            yield item
        for number in count(2) if found else ():
            suffix = f"#{number}"
            for item in self._source.read():
                if not isinstance(item, Failed):
                    item[ID] += suffix
                    yield item
