"""How many workers each hop has: as many as the user says, or as feed the slowest hop.

Where the user does not say, a phase of one hop gets all the workers that the place can hold. One of several hops begins
with a worker for each; then the hop that limits the others, by measured time, gets another one, as long as there is
room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from loguru import logger

from curate.engine.protocol.transport import Transport
from curate.engine.scheduling.hop_state import HopState, WorkerState

_BACKOFF_S = 1.0
"""A set-up that has failed is tried again after so long, and after twice as long the next time."""

_GROWS_EVERY_S = 1.0
"""New workers need a moment before they show in the measured times."""


class Autoscaler:
    """Decides which workers are started, and starts them.

    Args:
        transport: where they live.
        lines: the phase's hops.
        clock: seconds that never go back.
    """

    def __init__(self, transport: Transport, lines: Sequence[HopState], clock: Callable[[], float]) -> None:
        self._transport = transport
        self._lines = lines
        self._clock = clock
        self._begun = False
        self._places: list[list[tuple[float, int]]] = [[] for _ in lines]
        """For each hop, the workers to be started: when, and in which slot."""
        self._slots = [0] * len(lines)
        self._failures = [0] * len(lines)
        self._spent_s = [0.0] * len(lines)
        self._grown_s = clock()

    def target(self, hop: int) -> int:
        """Return how many workers a hop has, or is to have at the beginning."""
        line = self._lines[hop]
        if self._begun:
            return len(line.workers) + len(self._places[hop])
        if line.hop.workers is not None:
            return max(1, min(line.hop.workers, self._transport.room(hop)))
        return max(1, self._transport.room(hop)) if len(self._lines) == 1 else 1

    def pending(self, hop: int) -> int:
        """Return how many workers of a hop are still to be started."""
        return len(self._places[hop]) if self._begun else self.target(hop)

    def start_due(self, most: int | None) -> Iterator[tuple[HopState, int]]:
        """Start the workers whose time has come, and yield them with their hops.

        Args:
            most: how many records there are at the most; None: nobody knows.
        """
        if not self._begun:
            self._begin(most)
        self._grow()
        now = self._clock()
        for line in self._lines:
            places = self._places[line.number]
            due = [place for place in places if place[0] <= now]
            self._places[line.number] = [place for place in places if place[0] > now]
            for _, slot in due:
                number = self._transport.start(line.number, slot)
                line.workers[number] = WorkerState(number, slot, now)
                yield line, number

    def next_s(self) -> float | None:
        """Return after how many seconds a worker is to be started; None: there is none."""
        times = [place[0] for places in self._places for place in places]
        return max(0.0, min(times) - self._clock()) if times else None

    def note_ready(self, line: HopState) -> None:
        """Take in that a worker of a hop is set up."""
        self._failures[line.number] = 0

    def note_failed(self, line: HopState, worker: WorkerState, error: Exception) -> None:
        """Take in that a worker could not be set up; another one is tried in its place, a little later.

        Raises:
            Exception: `error`, if it has been tried often enough.
        """
        self._failures[line.number] += 1
        failures = self._failures[line.number]
        if failures >= self._transport.setup_attempts:
            raise error
        wait_s = _BACKOFF_S * 2 ** (failures - 1)
        logger.warning("{} cannot be set up ({}); trying again in {:g} s", line.hop.name, error, wait_s)
        self._places[line.number].append((self._clock() + wait_s, worker.slot))

    def replace(self, line: HopState, worker: WorkerState) -> None:
        """Have a worker started in the place of one that is gone."""
        self._places[line.number].append((self._clock(), worker.slot))

    def _begin(self, most: int | None) -> None:
        now = self._clock()
        splits = False
        for line in self._lines:
            count = self.target(line.number)
            if most is not None and not splits:
                count = max(1, min(count, most))
            splits = splits or any(getattr(stage.stage, "cardinality", "") == "splits" for stage in line.hop.stages)
            self._places[line.number] = [(now, slot) for slot in range(count)]
            self._slots[line.number] = count
        self._begun = True

    def _grow(self) -> None:
        """Give the hop that limits the others more workers, if it may have them."""
        now = self._clock()
        if len(self._lines) == 1 or now - self._grown_s < _GROWS_EVERY_S:
            return
        self._grown_s = now
        for line in self._lines:
            self._spent_s[line.number] = line.worked_s
        if not all(self._spent_s):
            return
        while True:
            load = [spent / max(1, self.target(hop)) for hop, spent in enumerate(self._spent_s)]
            hop = load.index(max(load))
            line = self._lines[hop]
            pending = sum(map(len, self._places))
            if line.hop.workers is not None or self._transport.room(hop) <= pending or not line.waiting:
                return
            self._places[hop].append((now, self._slots[hop]))
            self._slots[hop] += 1
