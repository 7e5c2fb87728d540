"""Worker processes of one machine, and the one selector that hears them all."""

from __future__ import annotations

import selectors
import time
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from curate.engine.protocol.messages import RecordsAnnounced, WorkerDied
from curate.executors.framing import Frame
from curate.executors.worker_payload import WorkerPayload
from curate.executors.worker_process import WorkerProcess

TEARDOWN_S = 30.0
"""So long may the teardown of all workers take; then they are killed."""

BUSY_S = 5.0
"""The same where a worker is interrupted in the midst of a batch."""


WorkerOutput: TypeAlias = "tuple[int, Frame | RecordsAnnounced | WorkerDied]"
"""A worker's number, and what it has said, what it touches, or how it has ended."""


class ProcessPool:
    """Starts, hears and ends worker processes; what they say it passes on unread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._workers: dict[int, WorkerProcess] = {}
        self._unsent: set[int] = set()
        self._blocked: set[int] = set()

    def __contains__(self, number: int) -> bool:
        return number in self._workers

    def start(self, number: int, parcel: WorkerPayload, environment: Mapping[str, str]) -> None:
        """Start a worker under a number of its own."""
        worker = WorkerProcess(number, parcel, environment)
        self._workers[number] = worker
        self._unsent.add(number)
        for descriptor, source in worker.descriptors():
            self._selector.register(descriptor, selectors.EVENT_READ, (number, source))

    def send(self, number: int, batch: int, payload: bytes) -> None:
        """Queue a pickled batch, under its number, for a worker; never blocks."""
        self._workers[number].put(batch, payload)
        self._unsent.add(number)

    def wait(self, timeout_s: float | None = None) -> Sequence[WorkerOutput]:
        """Block until something happens, or `timeout_s` has passed, and return what has happened, in order.

        Once the time has passed, there is a `RecordsAnnounced` for every worker that has moved on to other records, in
        addition to whatever else has happened; before a `WorkerDied`, there is one for the last that it touched.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._flush()
            left = None if end is None else max(0.0, end - time.monotonic())
            heard: list[WorkerOutput] = []
            ended: set[int] = set()
            receiving = False
            for key, events in self._selector.select(left):
                number, source = key.data
                worker = self._workers[number]
                if number in self._blocked:
                    self._unsent.add(number)
                if source == "output":
                    worker.read_output()
                elif source == "exit":
                    ended.add(number)
                else:
                    receiving = receiving or bool(events & selectors.EVENT_READ)
                    try:
                        heard.extend((number, frame) for frame in worker.receive())
                    except EOFError:
                        ended.add(number)
            for number in ended:
                heard.extend(self._bury(number))
            over = end is not None and time.monotonic() >= end
            if over and (heard or not receiving):  # of a message that has only begun, the rest is there or will be soon
                looks = ((number, worker.look()) for number, worker in self._workers.items())
                heard.extend((number, started) for number, started in looks if started is not None)
                return heard
            if heard:
                return heard

    def _bury(self, number: int) -> Sequence[WorkerOutput]:
        worker = self._forget(number)
        heard: list[WorkerOutput] = [(number, frame) for frame in worker.rest()]
        started = worker.look()
        if started is not None:
            heard.append((number, started))
        heard.append((number, worker.reap()))
        return heard

    def kill(self, number: int) -> None:
        """Kill a worker; `WorkerDied` will follow. One that is gone is left in peace."""
        worker = self._workers.get(number)
        if worker is not None:
            worker.kill()

    def close(self) -> None:
        """Let every worker tear down its stages; those that do not end in time are killed."""
        busy = any(worker.busy for worker in self._workers.values())
        for worker in self._workers.values():
            worker.end()
        end = time.monotonic() + (BUSY_S if busy else TEARDOWN_S)
        while self._workers and (left := end - time.monotonic()) > 0:
            self.wait(left)
        for number in list(self._workers):
            self._forget(number).reap()
        self._selector.close()

    def _flush(self) -> None:
        """Send what waits; a worker that takes no more now is written to when it does."""
        unsent, self._unsent = self._unsent, set()
        for number in unsent:
            worker = self._workers.get(number)
            if worker is None:
                continue
            blocked = worker.flush()
            if blocked != (number in self._blocked):
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if blocked else 0)
                self._selector.modify(worker.socket, events, (number, "socket"))
                (self._blocked.add if blocked else self._blocked.discard)(number)

    def _forget(self, number: int) -> WorkerProcess:
        worker = self._workers.pop(number)
        self._unsent.discard(number)
        self._blocked.discard(number)
        for descriptor, _ in worker.descriptors():
            self._selector.unregister(descriptor)
        return worker
