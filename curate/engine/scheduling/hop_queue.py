"""The batches that wait for a worker of one hop, and the suspected records that go to a worker alone."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Sequence

from curate.engine.protocol.messages import BatchTask

QUEUE_BYTES = 256 * 1024 * 1024
"""The hop before accepts no more batches while this many bytes wait."""


class HopQueue:
    """A bounded queue of batches; only its methods change it.

    Batches are kept by the number of the task that they came from, so that the parts in which a worker hands a batch on
    travel together again.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, BatchTask] = {}
        self._bytes: dict[int, int] = {}
        self._unmergeable: set[int] = set()
        """Batches that travel with no others, because a record on which they have failed is being looked for."""
        self._suspects: deque[BatchTask] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def records(self) -> int:
        """How many records wait, suspects left out."""
        return sum(len(task.records) for task in self._waiting.values())

    @property
    def has_suspects(self) -> bool:
        """Whether a suspected record waits to go alone."""
        return bool(self._suspects)

    def is_full(self, workers: int) -> bool:
        """Return whether the hop before must wait; some batches are queued for each of the `workers` then."""
        if len(self._waiting) > 2 * max(1, workers):
            return True
        return bool(self._bytes) and sum(self._bytes.values()) >= QUEUE_BYTES

    def put(self, task: BatchTask, *, origin: int | None = None, size: int = 0) -> None:
        """Queue a batch of `size` bytes; parts of the same `origin` become one batch."""
        key = task.number if origin is None else origin
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = task
        else:
            waiting.records.extend(task.records)
        if size:
            self._bytes[key] = self._bytes.get(key, 0) + size

    def requeue(self, tasks: Sequence[BatchTask], *, unmergeable: bool = False) -> None:
        """Queue batches in front of all others, because they have waited before."""
        self._waiting = {task.number: task for task in tasks} | self._waiting
        if unmergeable:
            self._unmergeable.update(task.number for task in tasks)

    def take(self) -> BatchTask:
        """Remove and return the batch that has waited longest."""
        key = next(iter(self._waiting))
        self._bytes.pop(key, None)
        self._unmergeable.discard(key)
        return self._waiting.pop(key)

    def take_mergeable(self, limit: int) -> list[BatchTask]:
        """Remove and return the batch that has waited longest, and up to `limit - 1` like it that wait behind it."""
        first = next(iter(self._waiting.values()))
        like = (first.filepath_key, first.dataset_name)
        count = 0
        for task in itertools.islice(self._waiting.values(), limit):
            if task.number in self._unmergeable or (task.filepath_key, task.dataset_name) != like:
                break
            count += 1
        return [self.take() for _ in range(max(1, count))]

    def clear(self) -> None:
        """Drop the batches that no worker has begun; a later attempt of the run works on them."""
        self._waiting.clear()
        self._bytes.clear()
        self._unmergeable.clear()

    def add_suspects(self, tasks: Iterable[BatchTask]) -> None:
        """Queue single records that go alone, one at a time."""
        self._suspects.extend(tasks)

    def retry_suspect(self, task: BatchTask) -> None:
        """Queue a suspect that has failed alone, to be tried next."""
        self._suspects.appendleft(task)

    def take_suspect(self) -> BatchTask:
        """Remove and return the suspect that has waited longest."""
        return self._suspects.popleft()
