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
        file: the file that is read, for its name.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._noted_s = time.monotonic()
        self._last = -1
        self._run = 0

    def add(self, number: int) -> None:
        """Count a line, and log its number if no record has come for some seconds."""
        self._run = self._run + 1 if number == self._last + 1 else 1
        self._last = number
        if self._run == 1:
            self._noted_s = time.monotonic()
        elif self._run % _LINES == 0 and time.monotonic() - self._noted_s >= INTERVAL_S:
            self._noted_s = time.monotonic()
            name = getattr(self._file, "name", "") or "a manifest"
            logger.info("{}: at line {:,}; the last {:,} lines were passed", name, number, self._run)
