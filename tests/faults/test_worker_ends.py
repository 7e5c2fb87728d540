"""How a worker ends, and what it leaves behind: the driver reads what is there, and blames what was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline, RecordStage
from curate.executors.local import LocalExecutor
from curate.executors.multiprocessing import MultiprocessingExecutor
from curate.executors.ray import RayExecutor
from curate.records import Record
from curate.stages import ReadRecords
from tests.conftest import processes_left

WITH_PROCESSES: list[Any] = [
    pytest.param(MultiprocessingExecutor(cpus=2), id="multiprocessing"),
    pytest.param(RayExecutor(), id="ray"),
]

PRINTS = "import sys\nwhile True: sys.stdout.write('x' * 4096 + '\\n')"


@contextmanager
def at_most(seconds: int) -> Generator[None]:
    """Fail instead of waiting for ever."""

    def fail(*_: Any) -> None:
        raise AssertionError(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def helpers(tmp_path: Path) -> Iterator[Path]:
    """A folder in which stages note their helper processes, which are killed at the end of the test."""
    folder = tmp_path / "helpers"
    folder.mkdir()
    yield folder
    for note in folder.iterdir():
        with suppress(ProcessLookupError):  # it ended by itself, since its pipe was closed
            os.kill(int(note.name), signal.SIGKILL)


@dataclass
class LeavesHelper(RecordStage):
    """Starts a process in a session of its own that the end of the worker does not end; then ends itself if told."""

    folder: str
    forks: bool = False
    dies: bool = True

    def process_record(self, record: Record) -> Record:
        if record["x"] == 3 and not list(Path(self.folder).iterdir()):
            pid = self._fork() if self.forks else self._start()
            (Path(self.folder) / str(pid)).touch()
            if self.dies:
                os._exit(7)
        return record

    def _start(self) -> int:
        return subprocess.Popen([sys.executable, "-c", PRINTS], start_new_session=True).pid

    def _fork(self) -> int:
        """Fork a process that has every descriptor of the worker, its socket included."""
        pid = os.fork()
        if pid == 0:
            os.setsid()
            while True:
                time.sleep(3600)
        return pid


def run(executor: Any, *stages: RecordStage, count: int = 20) -> Any:
    records: list[Record] = [{"x": x, "duration": 1.0} for x in range(count)]
    result = Pipeline("ends", [ReadRecords(records), *stages]).run(executor)
    assert result.summary["kept"] + result.summary["quarantined"] == count
    return result


@pytest.mark.parametrize("place", WITH_PROCESSES, indirect=True)
@pytest.mark.parametrize("dies", [True, False])
def test_helper_that_prints_without_end_does_not_hold_the_run(place: Any, dies: bool, helpers: Path) -> None:
    with at_most(60):
        result = run(place, LeavesHelper(str(helpers), dies=dies).with_(workers=1))
    assert result.summary["kept"] == 20


@pytest.mark.parametrize("place", WITH_PROCESSES, indirect=True)
def test_forked_helper_with_the_socket_does_not_hold_the_run(place: Any, helpers: Path) -> None:
    with at_most(60):
        result = run(place, LeavesHelper(str(helpers), forks=True).with_(workers=1))
    assert result.summary["kept"] == 20


class PointsOutputElsewhere(RecordStage):
    """Points its standard output and error at a file, and then takes a second of wall time."""

    def setup(self) -> None:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)

    def process_record(self, record: Record) -> Record:
        time.sleep(0.1)
        return record


def test_output_pointed_elsewhere_costs_the_driver_nothing() -> None:
    place = MultiprocessingExecutor(cpus=1)
    run(place, PointsOutputElsewhere().with_(workers=1), count=1)
    before = time.process_time()
    run(place, PointsOutputElsewhere().with_(workers=1), count=20)
    assert time.process_time() - before < 1.0  # of the two seconds that the stage takes


@dataclass
class ClosesAll(RecordStage):
    """Closes every descriptor, and then ends in one of several ways."""

    how: str

    def process_record(self, record: Record) -> Record:
        if record["x"] == 3:
            os.closerange(3, 256)
            time.sleep(0.5)  # the driver sees the end of the connection long before the exit
            if self.how == "abort":
                os.abort()
            if self.how == "exit":
                os._exit(7)
            time.sleep(3600)
        return record


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("exit", "ended by itself with exit code 7"),
        ("abort", "crashed by itself with SIGABRT"),
        ("stay", "closed its connection to the driver, did not exit, and was killed by the driver"),
    ],
)
def test_worker_that_closes_its_connection_is_blamed_for_its_own_end(how: str, reason: str) -> None:
    with at_most(60):
        (note,) = run(MultiprocessingExecutor(cpus=1), ClosesAll(how).with_(workers=1)).quarantined
    assert (note.record["x"], note.code, note.attempts) == (3, "worker_died", 1)
    assert reason in note.message
    assert processes_left() == []


class LeavesThread(RecordStage):
    """Leaves a thread behind that no process ends while it runs."""

    def setup(self) -> None:
        threading.Thread(target=stay, name="keeps listening").start()

    def process_record(self, record: Record) -> Record:
        return record


RELEASED = threading.Event()


def stay() -> None:
    RELEASED.wait(3600)


@pytest.mark.parametrize("place", WITH_PROCESSES, indirect=True)
def test_leftover_thread_of_a_worker_is_named_and_waited_for_5_s(place: Any, warnings: list[str]) -> None:
    run(place, LeavesThread().with_(workers=1), count=1)
    began = time.monotonic()
    run(place, LeavesThread().with_(workers=1), count=1)
    assert time.monotonic() - began < 15.0
    assert any("'keeps listening'" in warning and "test_worker_ends.stay" in warning for warning in warnings)


def test_leftover_thread_on_local_is_named(warnings: list[str]) -> None:
    RELEASED.clear()
    try:
        run(LocalExecutor(), LeavesThread(), count=1)
    finally:
        RELEASED.set()
    assert any("'keeps listening'" in warning and "daemon=True" in warning for warning in warnings)
