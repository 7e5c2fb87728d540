"""Ends workers that do not get on: their time counts from the last sign that they did."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from curate.engine.protocol.transport import Transport
from curate.engine.scheduling.hop_state import HopState, WorkerState
from curate.plan import Hop
from curate.records import audio_ms

DEFAULT_S = 300.0
"""Where no stage of a hop has a `timeout_s`, a worker may be silent for so long at least …"""

AUDIO_FACTOR = 10.0
"""… or for so many times the audio that it has announced, …"""

SEEN_FACTOR = 20.0
"""… or for so many times the longest silence before a worker of the hop has handed something on."""

LOOKS = 4
"""A worker is looked at so often within its time, because signs of life may only be seen when they are looked for."""


class Deadlines:
    """Watches over the workers that have something to do.

    Args:
        transport: kills them; one that cannot is left alone.
        lines: the phase's hops.
        clock: seconds that never go back.
    """

    def __init__(self, transport: Transport, lines: Sequence[HopState], clock: Callable[[], float]) -> None:
        self._transport = transport
        self._lines = lines
        self._clock = clock
        self._overdue: list[tuple[HopState, WorkerState, float, float]] = []

    def next_s(self) -> float | None:
        """Return after how many seconds to look at the workers again; None: there is nobody to look at."""
        now = self._clock()
        self._overdue = []
        wait_s: float | None = None
        for line, worker, timeout_s in self._watched(now):
            left_s = worker.last_progress_s + timeout_s - now
            if left_s <= 0:
                self._overdue.append((line, worker, worker.last_progress_s, timeout_s))
            look_s = max(0.0, min(left_s, min(timeout_s, DEFAULT_S) / LOOKS))
            wait_s = look_s if wait_s is None else min(wait_s, look_s)
        return wait_s

    def enforce(self) -> None:
        """Kill the workers whose time was over when `next_s` was asked, and which have given no sign since.

        What they had said before may only have waited to be heard, so they are heard once more first.
        """
        for line, worker, last_progress_s, timeout_s in self._overdue:
            if worker.number in line.workers and worker.last_progress_s == last_progress_s:
                worker.timed_out = timeout_s
                self._transport.kill(worker.number)
        self._overdue = []

    def _watched(self, now: float) -> Iterator[tuple[HopState, WorkerState, float]]:
        if not self._transport.can_kill:
            return
        for line in self._lines:
            for worker in line.workers.values():
                if worker.timed_out is not None:
                    continue
                if not worker.ready:
                    yield line, worker, self._transport.setup_timeout_s
                elif worker.in_flight:
                    yield line, worker, _timeout_s(line, worker, now - worker.last_progress_s)


def timeout_of(hop: Hop) -> float | None:
    """Return the deadline that a hop's stages ask for, in seconds; None: they do not say."""
    given = [planned.stage.timeout_s for planned in hop.stages if planned.stage.timeout_s is not None]
    return max(given, default=None)


def _timeout_s(line: HopState, worker: WorkerState, silent_s: float) -> float:
    """Return for how long a worker may be silent, in seconds."""
    given = timeout_of(line.hop)
    if given is not None:
        return given
    if silent_s < DEFAULT_S:  # nearly always; how much more it may be need not be known yet
        return DEFAULT_S
    audio_s, current, announced = 0.0, worker.current, worker.announced
    if current is not None:
        positions = announced.positions() if announced is not None and announced.number == current.work.number else None
        records = current.work.records
        audio_s = current.audio_s if positions is None else sum(audio_ms(records[at]) for at in positions) / 1000
    return max(DEFAULT_S, AUDIO_FACTOR * audio_s, SEEN_FACTOR * line.slowest_s)
