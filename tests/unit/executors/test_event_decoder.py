"""What frames from workers mean, and what becomes of a worker that sends nonsense."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger

from curate.engine.protocol.messages import (
    BatchDone,
    BatchUnreadable,
    Event,
    PartialResult,
    RecordsAnnounced,
    ResultReceived,
    WorkerDied,
    WorkerFailed,
    WorkerReady,
)
from curate.errors import InfrastructureError
from curate.executors.decoding import EventDecoder
from curate.executors.framing import FrameType


class Listener:
    """A hearing, and whom it has killed."""

    def __init__(self) -> None:
        self.killed: list[int] = []
        self._decoder = EventDecoder(lambda worker: f"hop{worker}", self.killed.append)

    def hears(self, *heard: Any) -> list[Event]:
        return list(self._decoder.events(heard))


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def lines() -> Iterator[list[tuple[str, int, str]]]:
    """Return the log lines of curate, as they come."""
    seen: list[tuple[str, int, str]] = []

    def note(message: Any) -> None:
        seen.append((message.record["level"].name, message.record["level"].no, message.record["message"]))

    logger.enable("curate")
    sink = logger.add(note, level="INFO")
    yield seen
    logger.remove(sink)
    logger.disable("curate")


def frame(kind: FrameType, message: Any = None, number: int = 0) -> tuple[FrameType, int, bytes]:
    return kind, number, b"" if message is None else pickle.dumps(message)


def test_every_frame_becomes_its_event(listener: Listener) -> None:
    part = PartialResult(5, [{"x": 1}], ["r:1"], [0])
    payload = pickle.dumps(part)
    started = RecordsAnnounced(0, 5, {0: [1]})
    assert listener.hears(
        (0, frame(FrameType.READY)),
        (0, (FrameType.RESULT, 5, payload)),
        (1, frame(FrameType.DONE, number=7)),
        (1, frame(FrameType.UNREADABLE, "ValueError: no", 8)),
        (0, started),
    ) == [
        WorkerReady(0),
        ResultReceived(0, part, len(payload)),
        BatchDone(1, 7),
        BatchUnreadable(1, 8, "ValueError: no"),
        started,
    ]
    assert listener.killed == []


def test_a_failure_stops_the_run_with_its_own_words(listener: Listener) -> None:
    [event] = listener.hears((2, frame(FrameType.FAILED, ("stage 'asr' cannot be set up", "Traceback …"))))
    assert isinstance(event, WorkerFailed)
    assert (event.worker, type(event.error), str(event.error)) == (
        2,
        InfrastructureError,
        "stage 'asr' cannot be set up",
    )


def test_log_lines_are_logged_under_the_name_of_the_hop(listener: Listener, lines: list[tuple[str, int, str]]) -> None:
    message = "loading {a} model, 100%"
    assert listener.hears((1, frame(FrameType.LOG, ("WARNING", 30, message)))) == []
    assert lines == [("WARNING", 30, f"hop1: {message}")]
    assert listener.killed == []


def test_a_level_that_only_the_worker_knows_is_logged_by_its_number(
    listener: Listener, lines: list[tuple[str, int, str]]
) -> None:
    assert listener.hears((1, frame(FrameType.LOG, ("NOTICE OF A STAGE", 27, "hello")))) == []
    assert [(number, text) for _, number, text in lines] == [(27, "hop1: hello")]
    assert listener.killed == []


def test_a_worker_that_cannot_be_understood_is_killed_and_not_listened_to(listener: Listener) -> None:
    said = listener.hears(
        (0, (FrameType.RESULT, 5, b"no pickle")),
        (0, frame(FrameType.DONE, number=5)),
        (1, frame(FrameType.DONE, number=6)),
        (0, WorkerDied(0, "killed by SIGKILL", killed_externally=True)),
        (1, WorkerDied(1, "killed by SIGSEGV")),
    )
    assert listener.killed == [0]
    done, died, other = said
    assert (done, other) == (BatchDone(1, 6), WorkerDied(1, "killed by SIGSEGV"))
    assert isinstance(died, WorkerDied)
    assert died.worker == 0
    assert died.reason.startswith("it sent a frame that cannot be read (UnpicklingError: ")
    assert not died.killed_externally, "its death is its own doing"


def test_what_it_touched_is_still_heard(listener: Listener) -> None:
    started = RecordsAnnounced(0, 5, {0: [3]})
    assert listener.hears((0, (FrameType.RESULT, 5, b"")), (0, started)) == [started]
