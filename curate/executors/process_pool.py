"""The pool of worker processes of one machine, with the selector that receives from all of them."""

from __future__ import annotations

import selectors
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias

from curate.engine.protocol.messages import RecordsAnnounced, WorkerDied
from curate.executors.framing import Frame
from curate.executors.worker_payload import WorkerPayload
from curate.executors.worker_process import WorkerProcess

TEARDOWN_S = 30.0
"""The time that the teardown of all workers may take; then they are killed."""

BUSY_S = 5.0
"""The same if a worker is interrupted during a batch."""

EXIT_S = 10.0
"""The time from the end of a worker's connection to its exit, whose status tells why; then it is killed."""


WorkerOutput: TypeAlias = "tuple[int, Frame | RecordsAnnounced | WorkerDied]"
"""A worker's number, and a frame that it sent, the records that it announced, or its end."""


class ProcessPool:
    """Starts and ends worker processes, and passes their frames on without decoding them."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._workers: dict[int, WorkerProcess] = {}
        self._unsent: set[int] = set()
        self._blocked: set[int] = set()
        self._exiting: dict[int, float] = {}
        """The workers that have closed their connection, and the time when those that have not exited are killed."""

    def __contains__(self, number: int) -> bool:
        return number in self._workers

    def start(self, number: int, parcel: WorkerPayload, environment: Mapping[str, str]) -> None:
        """Start a worker under an unused number."""
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
        """Block until there is output, or `timeout_s` has passed, and return the output in order.

        When the time has passed, the output includes a `RecordsAnnounced` for every worker that has announced other
        records; before a `WorkerDied`, it includes one for the worker's last announcement.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._flush()
            left = self._end_stuck(None if end is None else max(0.0, end - time.monotonic()))
            outputs: list[WorkerOutput] = []
            ended: set[int] = set()
            receiving = False
            for number, worker, source, events in self._selected(left):
                if number in self._blocked:
                    self._unsent.add(number)
                if source == "output":
                    self._read_output(worker)
                elif source == "exit":
                    ended.add(number)
                else:
                    receiving = receiving or bool(events & selectors.EVENT_READ)
                    try:
                        outputs.extend((number, frame) for frame in worker.receive())
                    except EOFError:
                        self._await_exit(number, worker, ended)
            for number in ended:
                outputs.extend(self._reap(number))
            over = end is not None and time.monotonic() >= end
            if over and (outputs or not receiving):  # the rest of a partly received message arrives soon
                looks = ((number, worker.look()) for number, worker in self._workers.items())
                outputs.extend((number, started) for number, started in looks if started is not None)
                return outputs
            if outputs:
                return outputs

    def _selected(self, left_s: float | None) -> Iterator[tuple[int, WorkerProcess, str, int]]:
        """Wait, and yield each ready source: number and worker, the source, and the events of the selector."""
        for key, events in self._selector.select(left_s):
            number, source = key.data
            worker = self._workers.get(number)
            if worker is None:  # an interrupt came while it was forgotten
                self._selector.unregister(key.fileobj)
            else:
                yield number, worker, source, events

    def _read_output(self, worker: WorkerProcess) -> None:
        worker.read_output()
        if worker.output_ended:  # a stage has pointed the descriptors elsewhere, or the worker exits
            self._selector.unregister(worker.output)

    def _await_exit(self, number: int, worker: WorkerProcess, ended: set[int]) -> None:
        """Stop receiving from a worker that has closed its connection, until its exit status is known."""
        self._selector.unregister(worker.socket)
        if worker.exit_descriptor is None:  # this system cannot wait for it together with the others
            worker.await_exit(EXIT_S)
            ended.add(number)
        else:
            self._exiting[number] = time.monotonic() + EXIT_S

    def _end_stuck(self, left_s: float | None) -> float | None:
        """Kill the workers that should have exited, and return how long to wait for output: at most `left_s`."""
        for number, end in list(self._exiting.items()):
            until = end - time.monotonic()
            if until <= 0:
                self._workers[number].end_stuck()
                del self._exiting[number]
            else:
                left_s = until if left_s is None else min(left_s, until)
        return left_s

    def _reap(self, number: int) -> Sequence[WorkerOutput]:
        worker = self._forget(number)
        outputs: list[WorkerOutput] = [(number, frame) for frame in worker.rest()]
        started = worker.look()
        if started is not None:
            outputs.append((number, started))
        outputs.append((number, worker.reap()))
        return outputs

    def kill(self, number: int) -> None:
        """Kill a worker; `WorkerDied` will follow. Does nothing if the worker has ended."""
        worker = self._workers.get(number)
        if worker is not None:
            worker.kill()

    def close(self) -> Sequence[WorkerOutput]:
        """Let every worker tear down its stages, kill those that do not end in time, and return the last output."""
        outputs: list[WorkerOutput] = []
        busy = any(worker.busy or not worker.is_set_up for worker in self._workers.values())
        for worker in self._workers.values():
            worker.end()
        end = time.monotonic() + (BUSY_S if busy else TEARDOWN_S)
        while self._workers and (left := end - time.monotonic()) > 0:
            outputs.extend(self.wait(left))
        for number in list(self._workers):
            self._forget(number).reap()
        self._selector.close()
        return outputs

    def _flush(self) -> None:
        """Send queued bytes; a worker whose socket is full is written to when it is writable again."""
        unsent, self._unsent = self._unsent, set()
        for number in unsent:
            worker = self._workers.get(number)
            if worker is None or worker.has_closed:
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
        self._exiting.pop(number, None)
        for descriptor, _ in worker.descriptors():
            with suppress(KeyError):  # an interrupt came after it was unregistered
                self._selector.unregister(descriptor)
        return worker
