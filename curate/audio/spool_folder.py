"""The folder of a spool: processes share it, and the last of them removes it, or after a crash another run does.

Every user holds a shared lock on a file in the folder. The lock goes with its process, so a folder whose lock can be
taken alone belongs to no living process.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import socket
import stat
from pathlib import Path

from curate.errors import CurateError, InfrastructureError

PREFIX = "curate-spool-"
"""How the folder of a run begins in a folder that runs share; below it, each node has a folder of its own."""

_LOCK = "in-use"

_ATTEMPTS = 100
"""Another process would have to remove the folder this many times, each time between two calls of this one."""


def node_name() -> str:
    """Return the name of this node's folder: file locks hold on one node."""
    return re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())


def check_spool_directory(directory: Path, error: type[CurateError]) -> None:
    """Check that the folder which the user has chosen for spools can be used.

    Raises:
        error: it is missing, no folder, or cannot be written.
    """
    if not directory.is_dir():
        fault = "is not a folder" if directory.exists() else "is missing"
    elif not os.access(directory, os.W_OK | os.X_OK):
        fault = "cannot be written"
    else:
        return
    raise error(
        f"spool_dir: {directory} {fault} on {socket.gethostname()}: create it on every node that works, or choose "
        "another folder with --spool-dir (`spool_dir:`); without it the spool lies in the run directory"
    )


def run_folder(run_directory: Path | None) -> str:
    """Return the name of a run's folder in a folder that runs share; a new one for a run without a directory."""
    key = os.urandom(16) if run_directory is None else os.fsencode(run_directory.resolve())
    return PREFIX + hashlib.sha256(key).hexdigest()[:16]


class SpoolFolder:
    """A folder that this process uses from `hold` to `release`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def hold(self) -> None:
        """Make the folder, and keep others from removing it. Done again, it does nothing."""
        if self._fd >= 0:
            return
        _remove_abandoned(self.path)
        for left in reversed(range(_ATTEMPTS)):
            try:
                self._make()
                fd = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(fd, fcntl.LOCK_SH)
                if _is_same(fd, self.path / _LOCK):
                    self._fd = fd
                    return
                os.close(fd)
            except FileNotFoundError:  # removed since; or nothing can be made there, as in /proc
                if not left:
                    raise
        raise InfrastructureError(f"{self.path} is removed by other processes as often as it is made")

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except FileExistsError:  # raised for a folder, too, that another process removes at this moment
            if not stat.S_ISDIR(self.path.stat().st_mode):
                raise

    def release(self) -> None:
        """Remove the folder, unless another process uses it."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            _remove_if_alone(fd, self.path)
        finally:
            os.close(fd)


def _remove_abandoned(mine: Path) -> None:
    """Remove the folders that runs which were killed have left on this node, where `mine` lies in a shared folder."""
    if not mine.parent.name.startswith(PREFIX):
        return
    for other in mine.parent.parent.glob(f"{PREFIX}*/{mine.name}"):
        with contextlib.suppress(OSError):  # it may be another user's, or be removed at this moment
            fd = os.open(other / _LOCK, os.O_RDWR | os.O_CLOEXEC)
            try:
                if other != mine:
                    _remove_if_alone(fd, other)
            finally:
                os.close(fd)


def _remove_if_alone(fd: int, folder: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    if not _is_same(fd, folder / _LOCK):
        return
    with contextlib.suppress(OSError):  # what cannot be removed is left to the next
        # The lock goes last: who finds a new one has a folder from which nothing is removed any more.
        for path in folder.iterdir():
            if path.name != _LOCK:
                _remove(path)
        (folder / _LOCK).unlink()
        folder.rmdir()
    if folder.parent.name.startswith(PREFIX):
        with contextlib.suppress(OSError):  # another node has a folder there
            folder.parent.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_same(fd: int, path: Path) -> bool:
    """Return whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
