"""Ends workers that do not get on: their time counts from the last sign that they did."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from curate.engine.line import Line, Worker
from curate.engine.transport import Transport
from curate.records import audio_ms

DEFAULT_S = 300.0
"""Where no stage of a hop has a `timeout_s`, a worker may be silent for so long at least …"""

AUDIO_FACTOR = 10.0
"""… or for so many times the audio that it has announced, …"""

SEEN_FACTOR = 20.0
"""… or for so many times the longest silence after which a worker of the hop has gone on."""

LOOKS = 4
"""A worker is looked at so often within its time, because signs of life may only be seen when they are looked for."""


class Deadlines:
    """Watches over the workers that have something to do.

    Args:
        transport: kills them; one that cannot is left alone.
        lines: the phase's hops.
        clock: seconds that never go back.
    """

    def __init__(self, transport: Transport, lines: Sequence[Line], clock: Callable[[], float]) -> None:
        self._transport = transport
        self._lines = lines
        self._clock = clock

    def next_s(self) -> float | None:
        """Return after how many seconds to look at the workers again; None: there is nobody to look at."""
        now = self._clock()
        waits = [
            min(timeout_s / LOOKS, max(0.0, worker.heard_s + timeout_s - now)) for worker, timeout_s in self._watched()
        ]
        return min(waits, default=None)

    def enforce(self) -> None:
        """Kill the workers whose time is over."""
        now = self._clock()
        for worker, timeout_s in self._watched():
            if worker.heard_s + timeout_s - now <= 0:  # as `next_s` reckons, or it would say "now" for ever
                worker.timed_out = timeout_s
                self._transport.kill(worker.number)

    def _watched(self) -> Iterator[tuple[Worker, float]]:
        if not self._transport.can_kill:
            return
        for line in self._lines:
            for worker in line.workers.values():
                if worker.timed_out is not None:
                    continue
                if not worker.ready:
                    yield worker, self._transport.setup_timeout_s
                elif worker.in_flight:
                    yield worker, _timeout_s(line, worker)


def _timeout_s(line: Line, worker: Worker) -> float:
    """Return for how long a worker may be silent, in seconds."""
    given = [planned.stage.timeout_s for planned in line.hop.stages if planned.stage.timeout_s is not None]
    if given:
        return max(given)
    current, touched = worker.current, worker.touched
    records = current.work.records if current is not None else []
    if touched is not None and current is not None and touched.number == current.work.number and touched.touched:
        positions = [position for some in touched.touched.values() for position in some or range(len(records))]
        records = [records[position] for position in positions]
    audio_s = sum(map(audio_ms, records)) / 1000
    return max(DEFAULT_S, AUDIO_FACTOR * audio_s, SEEN_FACTOR * line.slowest_s)
