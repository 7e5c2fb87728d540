"""Admits one driver to a run directory: a second one is refused with the holder's name, and a dead holder is replaced.

The lock is a file `driver-<number>.json` with its holder. A driver takes the lock by linking a file of its own under
the next free number; a file system lets only one of several succeed, network file systems without file locks included.
Numbers only rise: a holder that leaves marks its file, and only the holder of a higher number removes it. So the
highest number is always visible, and no process removes a file that may have become another's in the meantime.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, cast

import attrs
from loguru import logger

from curate.engine.durability.commit_file import repair_command
from curate.engine.durability.copies import move_aside
from curate.errors import CurateError, InfrastructureError, RunDirectoryError
from curate.storage import temporary_path

HEARTBEAT_S = 10.0
"""The interval between two heartbeats of a driver."""

STALE_S = 120.0
"""A driver on another machine without a heartbeat for this time counts as dead."""

_NAME = re.compile(r"driver-(\d{6,})\.json")


@attrs.frozen
class Holder:
    """The process that holds a run directory, or held it last.

    Args:
        host: the machine's name.
        machine: distinguishes this boot of the machine, and this space of process numbers, from others of its name.
        pid: the driver's process.
        process_started: when that process began, in the machine's own units; distinguishes reused process numbers.
        since: when it took the lock, seconds since the epoch.
        released: whether it has left in order.
        number: of the lock file.
        silent_s: the time since its last heartbeat.
        damaged: whether the lock file cannot be read, so that all of this is unknown but the last two.
    """

    host: str
    machine: str
    pid: int
    process_started: str
    since: float
    released: bool = False
    number: int = 0
    silent_s: float = 0.0
    damaged: bool = False

    @property
    def alive(self) -> bool:
        """Whether it may still be at work: on this machine, its process exists; elsewhere, its heartbeat is recent."""
        if self.released:
            return False
        if self.machine == _machine():
            return _process_started(self.pid) == self.process_started
        return self.silent_s < STALE_S

    def described(self) -> str:
        """Return a description of it for a person."""
        if self.damaged:
            return f"an unknown driver (the lock file {lock_name(self.number)} is damaged)"
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        heartbeat = "" if self.machine == _machine() else f", last heartbeat {max(self.silent_s, 0):.0f} s ago"
        return f"process {self.pid} on {self.host} since {since}{heartbeat}"


class DriverLock:
    """The lock of this process on a run directory, with a thread that sends heartbeats while it is held.

    Args:
        directory: the run directory.
        on_beat: called with every heartbeat, until it raises.
        replaces_damaged: whether to take the place of a driver whose lock file is damaged. If it is at work, it notices
            that before its next commit, and stops. The damaged file is moved aside.
    """

    def __init__(
        self, directory: Path, on_beat: Callable[[], None] | None = None, *, replaces_damaged: bool = False
    ) -> None:
        self._directory = directory
        self._replaces_damaged = replaces_damaged
        self._on_beat = on_beat
        self._number = 0
        self._beaten = directory
        self._left = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            RunDirectoryError: another driver holds it.
            InfrastructureError: its lock file is damaged.
            OSError: the directory cannot be written.
        """
        mine = _me()
        temporary = temporary_path(self._directory / "driver")
        try:
            while True:
                temporary.write_text(json.dumps(mine))  # again: a driver that starts removes it as a leftover
                try:
                    now = temporary.stat().st_mtime
                except FileNotFoundError:
                    continue
                holder = holder_of(self._directory, now=now)
                if holder is not None and holder.alive and not (holder.damaged and self._replaces_damaged):
                    raise _refusal(self._directory, holder)
                self._number = 1 if holder is None else holder.number + 1
                try:
                    if not _linked(temporary, self._path(self._number)):
                        continue
                except FileNotFoundError:
                    continue
                if max(_numbers(self._directory)) == self._number:
                    break
                # the number was free because the next ones have been taken and left since this process looked
                self._path(self._number).unlink(missing_ok=True)
        finally:
            temporary.unlink(missing_ok=True)
        if holder is not None and holder.damaged:
            move_aside(self._directory, lock_name(holder.number))
        for number in _numbers(self._directory):
            if number < self._number:
                self._path(number).unlink(missing_ok=True)
        self._beaten = self._path(self._number).absolute()  # a stage of this process may change the working directory
        self._thread = threading.Thread(target=self._beat, name="curate heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(OSError):
            # the file stays: its number must not be given away again
            left = temporary_path(self._directory / "driver")
            if self._is_mine():
                left.write_text(json.dumps(_me() | {"released": True}))
                left.replace(self._path(self._number))

    def check(self) -> None:
        """Check that no other driver has taken this process for dead and replaced it.

        Raises:
            InfrastructureError: one has, or the directory cannot be read; this process may no longer write.
        """
        try:
            is_mine = self._is_mine()
            holder = None if is_mine else holder_of(self._directory)
        except OSError as error:
            raise InfrastructureError(
                f"the run directory {self._directory} can no longer be read: {error.strerror}"
            ) from error
        if not is_mine:
            now = "no driver" if holder is None else holder.described()
            raise InfrastructureError(
                f"{self._directory} is held by {now}: this process sent no heartbeat for {STALE_S:.0f} s or more, so "
                "it counted as dead and stops writing"
            )

    def _is_mine(self) -> bool:
        return self._path(self._number).exists() and not self._path(self._number + 1).exists()

    def _path(self, number: int) -> Path:
        return self._directory / lock_name(number)

    def _beat(self) -> None:
        while not self._left.wait(HEARTBEAT_S):
            with contextlib.suppress(OSError):  # `check` finds out before the next commit
                os.utime(self._beaten)
            if self._on_beat is not None:
                try:
                    self._on_beat()
                except Exception as error:  # noqa: BLE001 (without heartbeats this driver would count as dead)
                    logger.warning("the progress of the run is no longer reported: {}", error)
                    self._on_beat = None


def holder_of(directory: Path, *, now: float | None = None) -> Holder | None:
    """Return the process that holds a run directory or held it last; None: there was none.

    Args:
        directory: the run directory.
        now: the file server's time, which is not this machine's; None: take this machine's.
    """
    while True:
        number = max(_numbers(directory), default=0)
        if not number:
            return None
        path = directory / lock_name(number)
        try:
            beaten = path.stat().st_mtime
            silent_s = (time.time() if now is None else now) - beaten
            text = path.read_bytes()
        except FileNotFoundError:
            continue  # the next holder has just removed it
        try:
            described = cast("dict[str, Any]", json.loads(text))
            return Holder(**described, number=number, silent_s=silent_s)
        except (ValueError, TypeError):  # by a crash of a machine while it was written, or by a damaged disk
            return Holder("unknown", "", 0, "", beaten, number=number, silent_s=silent_s, damaged=True)


def lock_name(number: int) -> str:
    """Return the name of the lock file of a number."""
    return f"driver-{number:06d}.json"


def is_lock(name: str) -> bool:
    """Return whether a file of the run directory is a lock's."""
    return _NAME.fullmatch(name) is not None


def _refusal(directory: Path, holder: Holder) -> CurateError:
    if holder.damaged:
        return InfrastructureError(
            f"the lock file {directory / lock_name(holder.number)} is damaged, so it is not known whether a driver is "
            f"at work; it counts as dead {max(STALE_S - holder.silent_s, 0):.0f} s from now, unless it sends a "
            "heartbeat\nIf no driver is at work, the following command moves the file aside; then run the same "
            f"command again:\n  {repair_command(directory)}"
        )
    here = holder.machine == _machine()
    wait = "" if here else f"; if it is dead, it counts as dead {STALE_S:.0f} s after its last heartbeat"
    return RunDirectoryError(
        f"{directory} is in use by {holder.described()}: wait for it, stop it, or choose another --run-dir{wait}"
    )


def _numbers(directory: Path) -> list[int]:
    found = (_NAME.fullmatch(entry.name) for entry in directory.iterdir())
    return [int(match[1]) for match in found if match]


def _linked(source: Path, target: Path) -> bool:
    """Link a file under a second name, unless that name is taken; return whether it was not."""
    try:
        os.link(source, target)
    except FileExistsError:
        # the answer to a request that was sent twice over a bad network: it may have been ours
        return source.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        content = source.read_text()
        try:  # a file system without hard links
            with target.open("x") as file:
                file.write(content)
        except FileExistsError:
            return False
    return True


def _me() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": pid,
        "process_started": _process_started(pid),
        "since": time.time(),
    }


def _machine() -> str:
    """Return a name of this boot of this machine; under one name, equal process numbers are equal processes."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))  # noqa: PTH115 (not a path: pid:[4026531836])
    return " ".join(parts)


def _process_started(pid: int) -> str:
    """Return when a process of this machine began; "" if there is none, or it is a zombie."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else fields[18]
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return ""
    try:  # a machine without /proc
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        return "running"
    return "running"
