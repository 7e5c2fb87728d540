"""What frames from workers mean, and what becomes of a worker that sends nonsense."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger

from curate.engine.messages import Acknowledged, Died, Done, Event, Part, Ready, Started, Unreadable, WorkerFailed
from curate.errors import InfrastructureError
from curate.executors.hearing import Hearing
from curate.executors.wire import Kind


class Listener:
    """A hearing, and whom it has killed."""

    def __init__(self) -> None:
        self.killed: list[int] = []
        self._hearing = Hearing(lambda worker: f"hop{worker}", self.killed.append)

    def hears(self, *heard: Any) -> list[Event]:
        return list(self._hearing.events(heard))


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


def frame(kind: Kind, message: Any = None, number: int = 0) -> tuple[Kind, int, bytes]:
    return kind, number, b"" if message is None else pickle.dumps(message)


def test_every_frame_becomes_its_event(listener: Listener) -> None:
    part = Part(5, [{"x": 1}], ["r:1"], [0])
    payload = pickle.dumps(part)
    started = Started(0, 5, {0: [1]})
    assert listener.hears(
        (0, frame(Kind.READY)),
        (0, (Kind.PART, 5, payload)),
        (1, frame(Kind.DONE, number=7)),
        (1, frame(Kind.UNREADABLE, "ValueError: no", 8)),
        (0, started),
    ) == [Ready(0), Acknowledged(0, part, len(payload)), Done(1, 7), Unreadable(1, 8, "ValueError: no"), started]
    assert listener.killed == []


def test_a_failure_stops_the_run_with_its_own_words(listener: Listener) -> None:
    [event] = listener.hears((2, frame(Kind.FAILED, ("stage 'asr' cannot be set up", "Traceback …"))))
    assert isinstance(event, WorkerFailed)
    assert (event.worker, type(event.error), str(event.error)) == (
        2,
        InfrastructureError,
        "stage 'asr' cannot be set up",
    )


def test_log_lines_are_logged_under_the_name_of_the_hop(listener: Listener, lines: list[tuple[str, int, str]]) -> None:
    message = "loading {a} model, 100%"
    assert listener.hears((1, frame(Kind.LOG, ("WARNING", 30, message)))) == []
    assert lines == [("WARNING", 30, f"hop1: {message}")]
    assert listener.killed == []


def test_a_level_that_only_the_worker_knows_is_logged_by_its_number(
    listener: Listener, lines: list[tuple[str, int, str]]
) -> None:
    assert listener.hears((1, frame(Kind.LOG, ("NOTICE OF A STAGE", 27, "hello")))) == []
    assert [(number, text) for _, number, text in lines] == [(27, "hop1: hello")]
    assert listener.killed == []


def test_a_worker_that_cannot_be_understood_is_killed_and_not_listened_to(listener: Listener) -> None:
    said = listener.hears(
        (0, (Kind.PART, 5, b"no pickle")),
        (0, frame(Kind.DONE, number=5)),
        (1, frame(Kind.DONE, number=6)),
        (0, Died(0, "killed by SIGKILL", outside=True)),
        (1, Died(1, "killed by SIGSEGV")),
    )
    assert listener.killed == [0]
    done, died, other = said
    assert (done, other) == (Done(1, 6), Died(1, "killed by SIGSEGV"))
    assert isinstance(died, Died)
    assert died.worker == 0
    assert died.reason.startswith("it sent what cannot be read (UnpicklingError: ")
    assert not died.outside, "its death is its own doing"


def test_what_it_touched_is_still_heard(listener: Listener) -> None:
    started = Started(0, 5, {0: [3]})
    assert listener.hears((0, (Kind.PART, 5, b"")), (0, started)) == [started]
