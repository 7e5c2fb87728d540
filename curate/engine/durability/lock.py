"""One driver for a run directory: the second is told who holds it, and a dead holder stands in nobody's way.

The lock is a file `driver-<number>.json` that says who holds it. Whoever wants the lock links a file of its own under
the next free number, which a file system lets only one of several succeed in, network file systems without file locks
included. Numbers only rise: a holder that leaves marks its file, and only who holds a higher number removes it. So the
highest number is always there to be seen, and nobody removes a file that may have become another's in the meantime.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, cast

import attrs

from curate.errors import InfrastructureError, RunDirectoryError
from curate.io.atomic import TEMPORARY

HEARTBEAT_S = 10.0
"""So often a driver gives a sign of life."""

STALE_S = 120.0
"""A driver on another machine that has given no sign of life for so long counts as dead."""

_NAME = re.compile(r"driver-(\d{6,})\.json")


@attrs.frozen
class Holder:
    """Who holds a run directory, or held it last.

    Args:
        host: the machine's name.
        machine: tells this boot of the machine, and this space of process numbers, from others of the same name.
        pid: the driver's process.
        process_started: when that process began, in the machine's own units; tells a process number used twice.
        since: when it took the lock, seconds since the epoch.
        released: whether it has left in order.
        number: of the lock file.
        silent_s: how long ago it gave its last sign of life.
    """

    host: str
    machine: str
    pid: int
    process_started: str
    since: float
    released: bool = False
    number: int = 0
    silent_s: float = 0.0

    @property
    def alive(self) -> bool:
        """Whether it may still be at work: on this machine its process is there, elsewhere it was heard from."""
        if self.released:
            return False
        if self.machine == _machine():
            return _process_started(self.pid) == self.process_started
        return self.silent_s < STALE_S

    def described(self) -> str:
        """Return who it is, for a person."""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        heard = "" if self.machine == _machine() else f", last heard of {max(self.silent_s, 0):.0f} s ago"
        return f"process {self.pid} on {self.host} since {since}{heard}"


class DriverLock:
    """The lock of this process on a run directory, with a thread that gives signs of life while it is held.

    Args:
        directory: the run directory.
        on_beat: called with every sign of life, and once at the end; what it raises is its own affair.
    """

    def __init__(self, directory: Path, on_beat: Callable[[], None] | None = None) -> None:
        self._directory = directory
        self._on_beat = on_beat
        self._number = 0
        self._left = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            RunDirectoryError: another driver holds it.
            OSError: the directory cannot be written.
        """
        mine = _me()
        temporary = self._directory / f"driver{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}"
        try:
            temporary.write_text(json.dumps(mine))
            while True:
                holder = holder_of(self._directory, now=temporary.stat().st_mtime)
                if holder is not None and holder.alive:
                    raise _refusal(self._directory, holder)
                self._number = 1 if holder is None else holder.number + 1
                if not _linked(temporary, self._path(self._number)):
                    continue
                if max(_numbers(self._directory)) == self._number:
                    break
                # the number was free because the next ones have been taken and left since this process looked
                self._path(self._number).unlink(missing_ok=True)
        finally:
            temporary.unlink(missing_ok=True)
        for number in _numbers(self._directory):
            if number < self._number:
                self._path(number).unlink(missing_ok=True)
        self._thread = threading.Thread(target=self._beat, name="curate heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(OSError):
            # the file stays: its number must not be given away again
            left = self._path(self._number).with_name(f"driver{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}")
            if self._is_mine():
                left.write_text(json.dumps(_me() | {"released": True}))
                left.replace(self._path(self._number))

    def check(self) -> None:
        """Make sure that nobody has taken this process for dead, and the lock with it.

        Raises:
            InfrastructureError: somebody has, or nobody can say; nothing may be written any more.
        """
        try:
            is_mine = self._is_mine()
            holder = None if is_mine else holder_of(self._directory)
        except OSError as error:
            raise InfrastructureError(
                f"the run directory {self._directory} cannot be read any more: {error.strerror}"
            ) from error
        if not is_mine:
            now = "nobody" if holder is None else holder.described()
            raise InfrastructureError(
                f"{self._directory} is held by {now}: this process gave no sign of life for {STALE_S:.0f} s or more, "
                "so it counted as dead and writes nothing more"
            )

    def _is_mine(self) -> bool:
        return self._path(self._number).exists() and not self._path(self._number + 1).exists()

    def _path(self, number: int) -> Path:
        return self._directory / f"driver-{number:06d}.json"

    def _beat(self) -> None:
        while not self._left.wait(HEARTBEAT_S):
            with contextlib.suppress(OSError):  # `check` finds out before the next commit
                os.utime(self._path(self._number))
            if self._on_beat is not None:
                self._on_beat()


def holder_of(directory: Path, *, now: float | None = None) -> Holder | None:
    """Return who holds a run directory or held it last; None: nobody ever has.

    Args:
        directory: the run directory.
        now: the file server's time, which is not this machine's; None: take this machine's.
    """
    while True:
        number = max(_numbers(directory), default=0)
        if not number:
            return None
        path = directory / f"driver-{number:06d}.json"
        try:
            silent_s = (time.time() if now is None else now) - path.stat().st_mtime
            text = path.read_text()
        except FileNotFoundError:
            continue  # the next holder has just removed it
        try:
            said = cast("dict[str, Any]", json.loads(text))
            return Holder(**said, number=number, silent_s=silent_s)
        except (ValueError, TypeError):  # by a crash of a machine, while it was written
            return Holder("unknown", "", 0, "", path.stat().st_mtime, number=number, silent_s=silent_s)


def is_lock(name: str) -> bool:
    """Return whether a file of the run directory is a lock's."""
    return _NAME.fullmatch(name) is not None


def _refusal(directory: Path, holder: Holder) -> RunDirectoryError:
    here = holder.machine == _machine()
    wait = "" if here else f"; if it is dead, it counts as dead {STALE_S:.0f} s after its last sign of life"
    return RunDirectoryError(
        f"{directory} is in use by {holder.described()}: wait for it, stop it, or choose another --run-dir{wait}"
    )


def _numbers(directory: Path) -> list[int]:
    found = (_NAME.fullmatch(entry.name) for entry in directory.iterdir())
    return [int(match[1]) for match in found if match]


def _linked(source: Path, target: Path) -> bool:
    """Give a file a second name, if nobody has that name yet; return whether it worked."""
    try:
        os.link(source, target)
    except FileExistsError:
        # the answer to a request that was sent twice over a bad network: it may have been ours
        return source.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        try:  # a file system without hard links
            with target.open("x") as file:
                file.write(source.read_text())
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
    """Return what tells this machine, since it was started, from others: equal process numbers are equal processes."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))  # noqa: PTH115 (it is no path: pid:[4026531836])
    return " ".join(parts)


def _process_started(pid: int) -> str:
    """Return when a process of this machine began; "" if there is none, or it is dead and merely not yet buried."""
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
