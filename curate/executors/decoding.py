"""The decoder of frames from worker processes into events for the scheduler."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from loguru import logger

from curate.engine.protocol.messages import (
    BatchDone,
    BatchUnreadable,
    Event,
    RecordsAnnounced,
    ResultReceived,
    WorkerDied,
    WorkerFailed,
    WorkerReady,
)
from curate.errors import InfrastructureError
from curate.executors.framing import Frame, FrameType
from curate.executors.process_pool import WorkerOutput


class EventDecoder:
    """Turns the output of workers into events.

    A worker whose frame cannot be unpickled here is killed, because the fate of its records is unknown.

    Args:
        hop_of: the name of a worker's hop.
        kill: ends a worker.
    """

    def __init__(self, hop_of: Callable[[int], str], kill: Callable[[int], None]) -> None:
        self._hop_of = hop_of
        self._kill = kill
        self._unreadable: dict[int, str] = {}

    def events(self, outputs: Iterable[WorkerOutput]) -> Iterator[Event]:
        """Yield the events; log lines are logged."""
        for worker, output in outputs:
            if isinstance(output, WorkerDied):
                reason = self._unreadable.pop(worker, None)
                yield output if reason is None else WorkerDied(worker, reason)
            elif isinstance(output, RecordsAnnounced):
                yield output
            elif worker not in self._unreadable:
                try:
                    event = _event(worker, self._hop_of(worker), output)
                except Exception as error:  # noqa: BLE001 (a third-party value may raise anything)
                    self._unreadable[worker] = f"it sent a frame that cannot be read ({type(error).__name__}: {error})"
                    self._kill(worker)
                    continue
                if event is not None:
                    yield event


def _event(worker: int, hop: str, frame: Frame) -> Event | None:
    kind, number, payload = frame
    if kind is FrameType.RESULT:
        return ResultReceived(worker, pickle.loads(payload), len(payload))
    if kind is FrameType.DONE:
        return BatchDone(worker, number)
    if kind is FrameType.READY:
        return WorkerReady(worker)
    message: Any = pickle.loads(payload)
    if kind is FrameType.UNREADABLE:
        return BatchUnreadable(worker, number, message)
    if kind is FrameType.FAILED:
        reason, trace = message
        logger.debug("a worker of {} has failed:\n{}", hop, trace)
        return WorkerFailed(worker, InfrastructureError(reason))
    level, severity, text = message
    logger.log(level if _is_level(level) else severity, "{}: {}", hop, text)
    return None


def _is_level(name: str) -> bool:
    try:
        logger.level(name)
    except ValueError:  # a stage has added a level of its own in its worker
        return False
    return True
