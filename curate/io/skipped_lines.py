"""Reports how far a reader is that finds no records, as in a compressed file which unpacks to gigabytes of newlines.

The same holds for one line of gigabytes, and for blanks between two records.
"""

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
            message = "{}: at line {:,}; the last {:,} have no record"
            logger.info(message, _name_of(self._file), last, last - self._first + 1)


class SkippedBytes:
    """The bytes without a record that a reader passes, for the log.

    Args:
        file: the file that is read.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._noted_s = time.monotonic()
        self._passed = 0

    def add(self, size: int) -> None:
        """Count bytes, and log their sum if no record has come for some seconds; 0 says that one has come."""
        self._passed = self._passed + size if size else 0
        now = time.monotonic()
        if not size:
            self._noted_s = now
        elif now - self._noted_s >= INTERVAL_S:
            self._noted_s = now
            logger.info("{}: the last {:,} bytes have no record", _name_of(self._file), self._passed)


def pass_line(file: BinaryIO, most: int) -> None:
    """Pass the rest of a line that is too long for a record, however long it is.

    Args:
        file: the file, in the middle of the line.
        most: how many bytes to read together.
    """
    passed = SkippedBytes(file)
    while (line := file.readline(most)) and not line.endswith(b"\n"):
        passed.add(len(line))


def _name_of(file: BinaryIO) -> str:
    return getattr(file, "name", "") or "a manifest"
