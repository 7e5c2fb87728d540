"""One driver for a run directory: the second is refused by name, a dead one stands in nobody's way."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from curate.engine.durability import lock
from curate.engine.durability.directory_store import DirectoryStore
from curate.engine.durability.lock import STALE_S, DriverLock, holder_of
from curate.errors import InfrastructureError, RunDirectoryError

HOLDS = """
import sys
from pathlib import Path
from curate.engine.durability.lock import DriverLock
with DriverLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(directory: Path) -> subprocess.Popen[str]:
    """Let another process hold the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def say(directory: Path, **changes: Any) -> None:
    """Let the holder be somebody else."""
    (path,) = directory.glob("driver-*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "released": False, **changes}))


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """Return a directory that a driver has held and left."""
    with DriverLock(tmp_path):
        pass
    return tmp_path


def test_a_second_driver_is_told_who_holds_it(tmp_path: Path) -> None:
    process = hold(tmp_path)
    with pytest.raises(RunDirectoryError, match=rf"is in use by process {process.pid} on \S+ since \d{{4}}-"):
        DriverLock(tmp_path).__enter__()
    assert names(tmp_path) == ["driver-000001.json"]
    process.communicate("")
    with DriverLock(tmp_path):
        pass


def test_a_second_run_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    with DriverLock(tmp_path), pytest.raises(RunDirectoryError, match=f"process {os.getpid()}"):
        DriverLock(tmp_path).__enter__()


def test_a_killed_driver_stands_in_nobodys_way(tmp_path: Path) -> None:
    process = hold(tmp_path)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is dead and not yet buried
    with DriverLock(tmp_path):
        holder = holder_of(tmp_path)
        assert holder is not None
        assert (holder.pid, holder.number, holder.alive) == (os.getpid(), 2, True)
        assert names(tmp_path) == ["driver-000002.json"]
    process.wait()


def test_a_process_number_that_was_given_away_again_is_no_driver(left: Path) -> None:
    say(left, pid=os.getpid(), process_started="1")
    with DriverLock(left):
        pass


def test_a_driver_elsewhere_is_believed_while_it_gives_signs_of_life(left: Path) -> None:
    say(left, host="node7", machine="node7 another boot", pid=4711)
    with pytest.raises(
        RunDirectoryError, match=r"process 4711 on node7 since .*, last heartbeat \d+ s ago.*counts as dead"
    ):
        DriverLock(left).__enter__()
    (path,) = left.glob("driver-*.json")
    long_ago = path.stat().st_mtime - STALE_S - 1
    os.utime(path, (long_ago, long_ago))
    with DriverLock(left):
        pass


def test_signs_of_life_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.001)
    beaten = threading.Event()
    with DriverLock(tmp_path, beaten.set):
        (path,) = tmp_path.glob("driver-*.json")
        os.utime(path, (1, 1))
        beaten.clear()
        assert beaten.wait(30)
        assert path.stat().st_mtime > 1


def test_heartbeats_go_on_when_what_is_called_with_them_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.001)
    utime, beats, beaten = os.utime, list[Any](), threading.Event()

    def count(path: Any, *times: Any) -> None:
        utime(path, *times)
        beats.append(path)
        if len(beats) == 3:
            beaten.set()

    def fail() -> None:
        raise InfrastructureError("the manifest cannot be counted")

    monkeypatch.setattr(os, "utime", count)
    with DriverLock(tmp_path, fail):
        assert beaten.wait(10)


def test_heartbeats_are_of_this_run_while_a_stage_has_another_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.001)
    monkeypatch.chdir(tmp_path)
    beaten = threading.Event()
    with DriverLock(Path("run"), beaten.set):
        monkeypatch.chdir(tmp_path / "elsewhere")
        (path,) = (tmp_path / "run").glob("driver-*.json")
        for _ in range(2):  # the first may have begun before
            os.utime(path, (1, 1))
            beaten.clear()
            assert beaten.wait(30)
        beaten.clear()
        assert beaten.wait(30)
        assert path.stat().st_mtime > 1
        monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("removed_at", ["written", "linked"])
def test_refused_driver_names_the_holder_whose_start_has_removed_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed_at: str
) -> None:
    write_text, linked, holders = Path.write_text, lock._linked, list[DriverLock]()

    def hold_and_clean() -> None:
        if not holders:
            holders.append(DriverLock(tmp_path))
            holders[0].__enter__()
            DirectoryStore(tmp_path)

    def write(path: Path, *content: Any) -> int:
        size = write_text(path, *content)
        if removed_at == "written" and path.parent == tmp_path:
            hold_and_clean()
        return size

    def link(source: Path, target: Path) -> bool:
        if removed_at == "linked":
            hold_and_clean()
        return linked(source, target)

    monkeypatch.setattr(Path, "write_text", write)
    monkeypatch.setattr(lock, "_linked", link)
    first = DriverLock(tmp_path)
    with pytest.raises(RunDirectoryError, match=f"is in use by process {os.getpid()}"):
        first.__enter__()
    holders[0].__exit__()
    assert names(tmp_path).count("driver-000001.json") == 1


def test_a_driver_that_was_taken_for_dead_writes_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with DriverLock(tmp_path) as first:
        first.check()
        monkeypatch.setattr(lock, "_process_started", lambda pid: "")  # it is frozen, so to speak
        with DriverLock(tmp_path), pytest.raises(InfrastructureError, match="sent no heartbeat"):
            first.check()
    holder = holder_of(tmp_path)
    assert holder is not None
    assert (holder.number, holder.released) == (2, True)


def test_a_run_directory_that_cannot_be_read_any_more_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    with DriverLock(tmp_path) as held, monkeypatch.context() as patch:
        patch.setattr(Path, "exists", refused)
        with pytest.raises(InfrastructureError, match=r"can no longer be read: Permission denied"):
            held.check()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"host": 1}', b"\x00\xff\xfe"])
def test_damaged_lock_is_named_with_its_remedy_and_waited_out(left: Path, content: bytes) -> None:
    (path,) = left.glob("driver-*.json")
    path.write_bytes(content)
    with pytest.raises(InfrastructureError, match=rf"(?s)lock file .*{path.name} is damaged.*\n  curate repair .*"):
        DriverLock(left).__enter__()
    os.utime(path, (1, 1))
    with DriverLock(left):
        pass


def test_damaged_lock_is_replaced_when_asked_and_its_driver_stops_writing(tmp_path: Path) -> None:
    with DriverLock(tmp_path) as first:
        (path,) = tmp_path.glob("driver-*.json")
        path.write_bytes(b"garbage")
        with DriverLock(tmp_path, replaces_damaged=True), pytest.raises(InfrastructureError, match="stops writing"):
            first.check()
        assert (tmp_path / "damaged" / path.name).read_bytes() == b"garbage"


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    with DriverLock(tmp_path), pytest.raises(RunDirectoryError, match="in use by"):
        DriverLock(tmp_path).__enter__()


def test_a_link_that_was_made_although_the_answer_was_lost_is_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def made_twice(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError

    monkeypatch.setattr(os, "link", made_twice)
    with DriverLock(tmp_path):
        assert names(tmp_path) == ["driver-000001.json"]


RACES = """
import sys
from pathlib import Path
from curate.engine.durability.lock import DriverLock
from curate.errors import RunDirectoryError
directory, log = Path(sys.argv[1]), open(sys.argv[2], "a")
sys.stdin.readline()
won = 0
for _ in range(100):
    try:
        with DriverLock(directory):
            for what in ("in", "out"):
                log.write(what + "\\n")
                log.flush()
            won += 1
    except RunDirectoryError:
        pass
print(won)
"""


def test_of_many_that_race_for_it_never_two_hold_it(tmp_path: Path) -> None:
    directory, log = tmp_path / "run", tmp_path / "log"
    directory.mkdir()
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACES, str(directory), str(log)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = sum(int(racer.communicate(timeout=120)[0]) for racer in racers)
    lines = log.read_text().split()
    assert lines == ["in", "out"] * won
    assert won >= 1
