"""Decides how many workers each hop has: as many as the user says, or as many as the slowest hop needs.

Where the user does not say, a phase of one hop gets all the workers that the executor can hold. One of several hops
begins with one worker; then the hop that limits the others, by measured time, gets another one while there is room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from loguru import logger

from curate.engine.protocol.transport import Transport
from curate.engine.scheduling.hop_state import HopState
from curate.engine.scheduling.worker_pool import WorkerState

_BACKOFF_S = 1.0
"""Delay before a set-up that has failed is tried again; it doubles with every failure in a row."""

_GROWTH_INTERVAL_S = 1.0
"""New workers need a moment before they show in the measured times."""


class Autoscaler:
    """Decides which workers are started, and starts them.

    Args:
        transport: starts the workers.
        hops: the phase's hops.
        clock: seconds that never go back.
        on_ready: called once, when each hop has a worker that is set up.
    """

    def __init__(
        self,
        transport: Transport,
        hops: Sequence[HopState],
        clock: Callable[[], float],
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._transport = transport
        self._hops = hops
        self._clock = clock
        self._begun = False
        self._due: list[list[tuple[float, int]]] = [[] for _ in hops]
        """For each hop, the workers to be started: when, and in which slot."""
        self._slots = [0] * len(hops)
        self._failures = [0] * len(hops)
        self._grown_s = clock()
        self._on_ready = on_ready
        self._unready = {hop.number for hop in hops}

    def target(self, number: int) -> int:
        """Return how many workers a hop has or is about to have."""
        hop = self._hops[number]
        if self._begun:
            return len(hop.workers) + len(self._due[number])
        if hop.hop.workers is not None:
            return max(1, min(hop.hop.workers, self._transport.room(number)))
        return max(1, self._transport.room(number)) if len(self._hops) == 1 else 1

    def pending(self, number: int) -> int:
        """Return how many workers of a hop are still to be started."""
        return len(self._due[number]) if self._begun else self.target(number)

    def start_due(self, records: int | None) -> Iterator[tuple[HopState, int]]:
        """Start the workers whose time has come, and yield their numbers with their hops.

        Args:
            records: the most records that there can be; None: unknown.
        """
        if not self._begun:
            self._begin(records)
        if len(self._hops) > 1:
            self._grow()
        now = self._clock()
        for hop in self._hops:
            waiting = self._due[hop.number]
            if not waiting:
                continue
            self._due[hop.number] = [start for start in waiting if start[0] > now]
            for _, slot in (start for start in waiting if start[0] <= now):
                number = self._transport.start(hop.number, slot)
                hop.workers.add(number, slot, now)
                yield hop, number

    def next_s(self) -> float | None:
        """Return after how many seconds a worker is to be started; None: none is."""
        times = [start[0] for due in self._due for start in due]
        return max(0.0, min(times) - self._clock()) if times else None

    def record_ready(self, hop: HopState) -> None:
        """Record that a worker of a hop is set up."""
        self._failures[hop.number] = 0
        if hop.number in self._unready:
            self._unready.remove(hop.number)
            if not self._unready:
                self._on_ready()

    def record_failure(self, hop: HopState, worker: WorkerState, error: Exception) -> None:
        """Record that a worker could not be set up; another one is tried in its place, a little later.

        Raises:
            Exception: `error`, after as many failures in a row as the transport allows.
        """
        self._failures[hop.number] += 1
        failures = self._failures[hop.number]
        if failures >= self._transport.setup_attempts:
            raise error
        wait_s = _BACKOFF_S * 2 ** (failures - 1)
        logger.warning("{} cannot be set up ({}); trying again in {:g} s", hop.hop.name, error, wait_s)
        self._due[hop.number].append((self._clock() + wait_s, worker.slot))

    def replace(self, hop: HopState, worker: WorkerState) -> None:
        """Schedule a worker in the slot of one that is gone."""
        self._due[hop.number].append((self._clock(), worker.slot))

    def _begin(self, records: int | None) -> None:
        now = self._clock()
        splits = False  # behind a stage that splits, a hop may get more records than the input has
        for hop in self._hops:
            count = self.target(hop.number)
            if records is not None and not splits:
                first = not hop.number
                # a batch that stays whole, such as a shard, is work for one worker, however many records it has
                count = max(1, min(count, len(hop.queue) if first and hop.keeps_whole else records))
            splits = splits or any(getattr(stage.stage, "cardinality", "") == "splits" for stage in hop.hop.stages)
            self._due[hop.number] = [(now, slot) for slot in range(count)]
            self._slots[hop.number] = count
        self._begun = True

    def _grow(self) -> None:
        """Give the hop that limits the others more workers, if it may have them."""
        now = self._clock()
        if now - self._grown_s < _GROWTH_INTERVAL_S:
            return
        self._grown_s = now
        if not all(hop.worked_s for hop in self._hops):
            return
        while True:
            load = [hop.worked_s / max(1, self.target(hop.number)) for hop in self._hops]
            number = load.index(max(load))
            hop = self._hops[number]
            pending = sum(map(len, self._due))
            if hop.hop.workers is not None or self._transport.room(number) <= pending or not hop.queue:
                return
            self._due[number].append((now, self._slots[number]))
            self._slots[number] += 1
