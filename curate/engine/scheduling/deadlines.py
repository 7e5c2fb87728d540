"""Ends workers that make no progress: a deadline counts from the last sign of progress, not from a batch's start."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from curate.engine.protocol.transport import LOOKS, Transport, timeout_of
from curate.engine.scheduling.hop_state import HopState
from curate.engine.scheduling.worker_pool import WorkerState
from curate.records import audio_ms

DEFAULT_S = 300.0
"""Where no stage of a hop has a `timeout_s`, a worker may be silent for at least this long …"""

AUDIO_FACTOR = 10.0
"""… or for this many times the audio that it has announced, …"""

SEEN_FACTOR = 20.0
"""… or for this many times the longest silence after which a worker of the hop has returned a result."""


class Deadlines:
    """Watches over the workers that have something to do.

    Args:
        transport: kills them; it can (`can_kill`).
        hops: the phase's hops.
        clock: seconds that never go back.
    """

    def __init__(self, transport: Transport, hops: Sequence[HopState], clock: Callable[[], float]) -> None:
        self._transport = transport
        self._hops = hops
        self._clock = clock
        self._overdue: list[tuple[HopState, WorkerState, float, float]] = []

    def next_s(self) -> float | None:
        """Return after how many seconds to poll the workers again; None: there is none to poll."""
        now = self._clock()
        self._overdue = []
        wait_s: float | None = None
        for hop, worker, timeout_s in self._watched(now):
            left_s = worker.last_progress_s + timeout_s - now
            if left_s <= 0:
                self._overdue.append((hop, worker, worker.last_progress_s, timeout_s))
            look_s = max(0.0, min(left_s, min(timeout_s, DEFAULT_S) / LOOKS))
            wait_s = look_s if wait_s is None else min(wait_s, look_s)
        return wait_s

    def enforce(self) -> None:
        """Kill the workers that were overdue when `next_s` was asked, and have shown no progress since.

        A sign of progress may have waited in the transport until then, so an overdue worker is received from once more
        before it is killed.
        """
        for hop, worker, last_progress_s, timeout_s in self._overdue:
            if worker in hop.workers and worker.last_progress_s == last_progress_s:
                hop.workers.mark_timed_out(worker, timeout_s)
                self._transport.kill(worker.number)
        self._overdue = []

    def _watched(self, now: float) -> Iterator[tuple[HopState, WorkerState, float]]:
        for hop in self._hops:
            longest_silent = _longest_silent(hop, now)
            if longest_silent is not None:
                yield hop, *longest_silent
                continue
            for worker in hop.workers:
                if worker.timed_out is not None:
                    continue
                if not worker.ready:
                    yield hop, worker, self._transport.setup_timeout_s
                elif worker.in_flight:
                    yield hop, worker, _timeout_s(hop, worker, now - worker.last_progress_s)


def _longest_silent(hop: HopState, now: float) -> tuple[WorkerState, float] | None:
    """Return the worker of a hop whose deadline comes first, with its deadline, if all of them have the same one.

    Looking at each of a thousand workers for every message would take longer than the message.
    """
    timeout_s = timeout_of(hop.hop)
    found: WorkerState | None = None
    for worker in hop.workers:
        if not worker.ready or worker.timed_out is not None:
            return None
        if worker.in_flight and (found is None or worker.last_progress_s < found.last_progress_s):
            found = worker
    if found is None or now - found.last_progress_s >= (timeout_s or DEFAULT_S):
        return None
    return found, timeout_s or DEFAULT_S


def _timeout_s(hop: HopState, worker: WorkerState, silent_s: float) -> float:
    """Return how long a worker may be silent, in seconds."""
    given = timeout_of(hop.hop)
    if given is not None:
        return given
    if silent_s < DEFAULT_S:  # nearly always; the exact deadline does not matter yet
        return DEFAULT_S
    audio_s, current, announced = 0.0, worker.current, worker.announced
    if current is not None:
        is_current = announced is not None and announced.number == current.task.number
        positions = announced.positions() if announced is not None and is_current else None
        records = current.task.records
        audio_s = current.audio_s if positions is None else sum(audio_ms(records[at]) for at in positions) / 1000
    return max(DEFAULT_S, AUDIO_FACTOR * audio_s, SEEN_FACTOR * hop.workers.longest_silence_s)
