"""The folder of a private Ray cluster, and the removal of those that a killed driver has left behind.

A driver that is killed by SIGKILL cannot end its cluster: processes of Ray may stay, and the folder does, with some
hundred megabytes of logs and sockets. The next driver that starts a private cluster removes both.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from loguru import logger

_PREFIX = "curate-ray-"
_OWNER = "curate-owner.lock"
"""The file in the folder on which its driver holds a lock; the kernel releases it when the driver ends in any way."""


class ClusterFolder:
    """A new folder for a cluster of this process, until `remove`."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        unlocked = self.path / f"{_OWNER}.new"  # under its name, another driver that starts would take it for abandoned
        self._lock = os.open(unlocked, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unlocked.rename(self.path / _OWNER)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)  # some of Ray's processes may still write there
        os.close(self._lock)


def sweep_abandoned_folders() -> None:
    """Remove the folders of this user's drivers that are gone, and end the processes that use them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is another user's, in use, or removed by another driver meanwhile
            if folder.is_symlink() or folder.lstat().st_uid != os.getuid():
                continue
            lock = os.open(folder / _OWNER, os.O_RDWR)  # a folder without it was made by something else
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder)
            finally:
                os.close(lock)


def _remove(folder: Path) -> None:
    ended = 0
    for pid in _processes_in(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            ended += 1
    shutil.rmtree(folder, ignore_errors=True)
    logger.info("ray: removed {}, left by a driver that was killed, and ended {} of its processes", folder, ended)


def _processes_in(folder: Path) -> Iterator[int]:
    """Yield this user's processes whose command line names the folder, as those of Ray's services do."""
    name = os.fsencode(folder)
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if entry.stat().st_uid != os.getuid() or int(entry.name) == os.getpid():
                continue
            command = (entry / "cmdline").read_bytes()
            if name + b"/" in command or any(word.endswith(name) for word in command.split(b"\0")):
                yield int(entry.name)
