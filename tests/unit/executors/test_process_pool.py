"""The pool of worker processes ends in order, wherever an interrupt has come."""

from __future__ import annotations

import os
import selectors
from collections.abc import Iterator
from typing import Any

import pytest

from curate.engine.protocol.interrupt import Interrupted
from curate.engine.protocol.messages import WorkerDied
from curate.executors.process_pool import ProcessPool


class Worker:
    """A worker: its three descriptors say when it has ended."""

    busy = 0
    is_set_up = True
    has_closed = output_ended = False

    def __init__(self) -> None:
        ends = [os.pipe() for _ in range(3)]
        self.readings = [reading for reading, _ in ends]
        self._writings = [writing for _, writing in ends]

    def descriptors(self) -> Iterator[tuple[int, str]]:
        return zip(self.readings, ("exit", "output", "socket"), strict=True)

    def receive(self) -> Iterator[Any]:
        return iter(())

    def read_output(self) -> int:
        return 0

    def rest(self) -> Iterator[Any]:
        return iter(())

    def look(self) -> None:
        return None

    def flush(self) -> bool:
        return False

    def end(self) -> None:
        for writing in self._writings:
            os.close(writing)
        self._writings = []

    def reap(self) -> WorkerDied:
        for reading in self.readings:
            os.close(reading)
        return WorkerDied(0, "it ended by itself with exit code 0", False)


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_pool_closes_after_an_interrupt_while_a_worker_was_forgotten(
    monkeypatch: pytest.MonkeyPatch, place: str, nth: int
) -> None:
    pool, workers, calls = ProcessPool(), [Worker(), Worker()], list[int]()
    for number, worker in enumerate(workers):
        pool._workers[number] = worker  # pyright: ignore[reportArgumentType]
        for descriptor, source in worker.descriptors():
            pool._selector.register(descriptor, selectors.EVENT_READ, (number, source))
    workers[0].end()
    unregister = type(pool._selector).unregister

    def unregister_or_not(selector: Any, descriptor: Any) -> Any:
        calls.append(descriptor)
        if place == "before" and len(calls) == nth:
            raise Interrupted
        key = unregister(selector, descriptor)
        if place == "after" and len(calls) == nth:
            raise Interrupted
        return key

    monkeypatch.setattr(type(pool._selector), "unregister", unregister_or_not)
    with pytest.raises(Interrupted):
        pool.wait()
    pool.close()
    assert not pool._workers
