"""The one scheduler: pulls batches from the feed, keeps workers busy, and yields roots as they are settled.

It knows nothing of pipes or of Ray; a `Transport` starts workers and carries messages. What it holds is bounded: the
feed is read only for a worker that has room, and a worker gets no more while the queue behind it is long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from curate.engine.books import Settled
from curate.engine.ledger import Ledger
from curate.engine.messages import Acknowledged, Died, Done, Event, Ready, Started, Work, WorkerFailed
from curate.engine.transport import Transport
from curate.errors import AccountingError, InfrastructureError
from curate.monitoring import add_to
from curate.plan import Hop
from curate.records import AudioBatch, Record


@dataclass(slots=True)
class Incoming:
    """A batch of the phase's input; `seqs` are its records' positions there."""

    batch: AudioBatch
    seqs: Sequence[int]


Feed: TypeAlias = "Iterator[Incoming | Settled]"
"""Batches to work on, and roots that are settled before any work, such as a broken manifest line."""


@dataclass(slots=True)
class _Worker:
    hop: int
    in_flight: dict[int, Work] = field(default_factory=dict[int, Work])


class Scheduler:
    """Runs one phase.

    Args:
        transport: where the workers live.
        workers: how many workers each hop gets.
    """

    def __init__(self, transport: Transport, workers: Sequence[int]) -> None:
        self._transport = transport
        self._hops = len(workers)
        self._ledger = Ledger(last_hop=self._hops - 1)
        # Per hop: what waits for a worker, by the number of the work that it came from, so that what a worker hands
        # on in small parts travels together again.
        self._queues: list[dict[int, Work]] = [{} for _ in workers]
        self._queue_bounds = [2 * count + 1 for count in workers]
        self._workers: dict[int, _Worker] = {}
        for hop, count in enumerate(workers):
            for slot in range(count):
                self._workers[transport.start(hop, slot)] = _Worker(hop)
        self._next_number = 0
        self._busy_s: list[list[float]] = [[] for _ in workers]
        self._measures: dict[str, Any] = {}

    def run(self, feed: Feed) -> Iterator[Settled]:
        """Yield the feed's roots as they are settled, in any order; ends when every one of them is.

        Raises:
            InfrastructureError: a worker could not be set up, or met trouble that is not a record's.
        """
        exhausted = False
        while True:
            self._dispatch()
            while not exhausted and self._has_room():
                incoming = next(feed, None)
                if incoming is None:
                    exhausted = True
                elif isinstance(incoming, Settled):
                    yield incoming
                else:
                    self._admit(incoming)
                    self._dispatch()
            if not any(worker.in_flight for worker in self._workers.values()):
                if not self._ledger.empty:
                    raise AccountingError(f"the workers are idle, but not settled: {self._ledger.described()}")
                return
            for event in self._transport.wait():
                settled = self._handle(event)
                if settled is not None:
                    yield settled

    def _admit(self, incoming: Incoming) -> None:
        batch = incoming.batch
        work = Work(self._numbered(), batch.data, batch.filepath_key, batch.task_id, batch.dataset_name)
        self._ledger.admit(work.number, batch.data, incoming.seqs)
        self._queues[0][work.number] = work

    def _has_room(self) -> bool:
        """Return whether a worker of the first hop would get another batch at once."""
        return not self._queues[0] and not self._is_blocked(0) and self._freest(0) is not None

    def _freest(self, hop: int) -> int | None:
        """Return the worker of a hop that has least to do, or None if all have enough."""
        free = [
            (len(worker.in_flight), number)
            for number, worker in self._workers.items()
            if worker.hop == hop and len(worker.in_flight) < self._transport.in_flight
        ]
        return min(free)[1] if free else None

    def _numbered(self) -> int:
        self._next_number += 1
        return self._next_number

    def _dispatch(self) -> None:
        """Give queued batches to workers that have room, later hops first, so that what is begun is finished."""
        for hop in reversed(range(self._hops)):
            queue = self._queues[hop]
            while queue and not self._is_blocked(hop):
                number = self._freest(hop)
                if number is None:
                    break
                work = queue.pop(next(iter(queue)))
                self._workers[number].in_flight[work.number] = work
                self._transport.send(number, work)

    def _is_blocked(self, hop: int) -> bool:
        return hop + 1 < self._hops and len(self._queues[hop + 1]) >= self._queue_bounds[hop + 1]

    def _handle(self, event: Event) -> Settled | None:
        match event:
            case Acknowledged(number, part):
                worker = self._workers[number]
                self._add_busy(worker.hop, part.busy_s)
                add_to(self._measures, part.measures)
                settled, forward = self._ledger.settle(worker.hop, part)
                if forward:
                    self._forward(worker.hop + 1, forward, worker.in_flight[part.number])
                return settled
            case Done(number, batch):
                del self._workers[number].in_flight[batch]
            case Ready() | Started():  # of use where workers start slowly, or die
                return None
            case WorkerFailed(_, error):
                raise error
            case Died(_, reason):
                raise InfrastructureError(f"a worker died: {reason}")
        return None

    def _forward(self, hop: int, records: list[Record], origin: Work) -> None:
        """Queue records for the next hop, together with others of their batch that wait there already."""
        waiting = self._queues[hop].get(origin.number)
        if waiting is not None:
            waiting.records.extend(records)
        else:
            self._queues[hop][origin.number] = Work(
                self._numbered(), records, origin.filepath_key, origin.task_id, origin.dataset_name
            )

    def _add_busy(self, hop: int, seconds: Sequence[float]) -> None:
        total = self._busy_s[hop]
        total.extend([0.0] * (len(seconds) - len(total)))
        for level, spent in enumerate(seconds):
            total[level] += spent

    def take_measures(self) -> dict[str, Any]:
        """Return what each stage has measured since the last call, added up over all workers."""
        taken, self._measures = self._measures, {}
        return taken

    def take_busy_s(self, hops: Sequence[Hop]) -> dict[str, float]:
        """Return how long each stage has worked since the last call, in seconds over all workers."""
        taken = {
            planned.name: spent
            for hop, total in zip(hops, self._busy_s, strict=False)
            for planned, spent in zip(hop.stages, total, strict=False)
        }
        self._busy_s = [[] for _ in self._busy_s]
        return taken
