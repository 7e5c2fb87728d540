"""Which files of a folder were opened, as the kernel reports them: work on recordings, whatever program does it."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

_IN_OPEN = 0x20
_IN_Q_OVERFLOW = 0x4000
_HEADER = struct.Struct("iIII")


class OpenedFiles:
    """The names of the files of one folder that were opened since the watch began.

    Args:
        folder: the folder; files in folders below it are not watched.
    """

    def __init__(self, folder: Path) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self._file = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._file < 0 or library.inotify_add_watch(self._file, os.fsencode(folder), _IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), "inotify", str(folder))
        self._names: set[str] = set()

    def names(self) -> set[str]:
        """Return the names so far."""
        while True:
            try:
                events = os.read(self._file, 1 << 16)
            except BlockingIOError:
                return self._names
            place = 0
            while place < len(events):
                _, mask, _, length = _HEADER.unpack_from(events, place)
                if mask & _IN_Q_OVERFLOW:
                    raise RuntimeError(f"more files were opened between two samples than the kernel keeps: {mask:#x}")
                place += _HEADER.size
                name = events[place : place + length].rstrip(b"\0")
                place += length
                if name:
                    self._names.add(os.fsdecode(name))

    def close(self) -> None:
        """End the watch."""
        os.close(self._file)
