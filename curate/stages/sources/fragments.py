"""Sources cut into fragments of records, which threads read ahead."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from itertools import count, islice
from queue import SimpleQueue

from curate.records import ID, PLAIN_TYPES, Failed, Record, string_bytes
from curate.stage import Source

_HELD_RECORDS = 32_768
_HELD_BYTES = 64 * 1024 * 1024
"""The records, and the bytes of their strings, that all partitions together hold about at most."""

_MOST_RECORDS = 128
"""Small, so that the fragments of dozens of partitions stay in the processor's cache."""

_FEWEST_RECORDS = 4


class ReadAhead:
    """Threads that read fragments as they are asked for.

    A queue costs a tenth of a pool's futures, which at these sizes of fragments would be a tenth of all.

    Args:
        threads: their number.
    """

    def __init__(self, threads: int) -> None:
        self._asked: SimpleQueue[FragmentReader | None] = SimpleQueue()
        self._has_ended = False
        self._threads = [
            threading.Thread(target=self._work, name=f"mix-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def ask(self, reader: FragmentReader) -> None:
        """Have the next fragment of a reader read."""
        self._asked.put(reader)

    def close(self) -> None:
        """End the threads; what has been asked for and not begun is not read."""
        self._has_ended = True
        for _ in self._threads:
            self._asked.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (reader := self._asked.get()) is not None:
            if not self._has_ended:
                reader.read_ahead()


class FragmentReader:
    """The records of one source, a fragment at a time, read ahead by a pool of threads.

    What it yields depends on the source alone, never on the threads.

    Args:
        source: read from its first record on.
        threads: read ahead; None: fragments are read where they are asked for.
        prefetch: the number of fragments that are read ahead.
        partitions: the number of readers that share the memory.
        repeats: begin again at the end, without rows that are not records, and with ids `<id>#2`, `<id>#3` and so on.
    """

    def __init__(
        self, source: Source, threads: ReadAhead | None, *, prefetch: int, partitions: int, repeats: bool
    ) -> None:
        self._source = source
        self._threads = threads
        self._prefetch = prefetch
        self._repeats = repeats
        held = max(1, partitions * (prefetch + 1))
        self._most = min(_MOST_RECORDS, max(_FEWEST_RECORDS, _HELD_RECORDS // held))
        self._most_bytes = _HELD_BYTES // held
        self._lock = threading.Lock()
        self._ready: SimpleQueue[list[Record | Failed] | BaseException] = SimpleQueue()
        self._asked = 0
        self._is_begun = False
        self._records: Iterator[Record | Failed] | None = None
        # plugins are looked up through a context variable, which threads do not inherit
        self._context = contextvars.copy_context()

    def close(self) -> None:
        """Close the files, once no thread reads."""
        with self._lock:
            close = getattr(self._records, "close", None)
            if close is not None:
                close()

    def next_fragment(self) -> Iterator[Record | Failed]:
        """Return the records of the next fragment; none is the end. Without threads, the first one has all records."""
        if self._threads is None:
            fresh, self._is_begun = not self._is_begun, True
            return self._all() if fresh else iter(())
        while self._asked <= self._prefetch:
            self._threads.ask(self)
            self._asked += 1
        found = self._ready.get()
        self._asked -= 1
        if isinstance(found, BaseException):
            raise found
        return iter(found)

    def read_ahead(self) -> None:
        """Read one fragment; the order of fragments is that in which the lock is held, whichever thread holds it."""
        with self._lock:
            try:
                self._ready.put(self._context.run(self._taken))
            except BaseException as error:  # noqa: BLE001 (raised where the fragment is asked for)
                self._ready.put(error)

    def _taken(self) -> list[Record | Failed]:
        taken: list[Record | Failed] = []
        size = 0
        for item in islice(self._all(), self._most):
            taken.append(item)
            record = item if isinstance(item, dict) else item.record
            for value in record.values():  # a call of `string_bytes` would cost as much again
                if type(value) is str:
                    size += len(value)
                elif type(value) not in PLAIN_TYPES:
                    size += string_bytes({"": value})
            if size >= self._most_bytes:
                break
        return taken

    def _all(self) -> Iterator[Record | Failed]:
        if self._records is None:
            self._records = self._passes() if self._repeats else iter(self._source.read())
        return self._records

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
