"""Tells how far a reader is that finds no records, as in a compressed file which unpacks to gigabytes of newlines."""

from __future__ import annotations

import time
from typing import BinaryIO

from loguru import logger

INTERVAL_S = 5.0
"""The interval of the lines in the log."""

_LINES = 1 << 16
"""The number of lines between two looks at the clock."""


class SkippedLines:
    """The lines without a record that a reader passes, for the log.

    Args:
        file: the file that is read.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._peek = getattr(file, "peek", None)
        self._noted_s = time.monotonic()
        self._first = self._next = self._looked = 0

    def newlines(self) -> int:
        """Pass the newlines that follow in the file's buffer, faster than line by line, and return their number."""
        if self._peek is None:
            return 0
        ahead = self._peek(1)
        return len(self._file.read(len(ahead) - len(ahead.lstrip(b"\n"))))

    def add(self, first: int, last: int) -> None:
        """Count the lines between two numbers, and log the last one if no record has come for some seconds."""
        if first != self._next:
            self._first = self._looked = first
            self._noted_s = time.monotonic()
        self._next = last + 1
        if last - self._looked < _LINES:
            return
        self._looked = last
        if time.monotonic() - self._noted_s >= INTERVAL_S:
            self._noted_s = time.monotonic()
            name = getattr(self._file, "name", "") or "a manifest"
            logger.info("{}: at line {:,}; the last {:,} have no record", name, last, last - self._first + 1)
