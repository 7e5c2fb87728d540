"""Where log lines go. The library is silent; only the command line says otherwise."""

from __future__ import annotations

import os
import sys

from loguru import logger

LEVELS = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR")


def configure(level: str) -> None:
    """Send log lines of at least this level to standard error, and curate's own among them."""
    logger.remove()
    detailed = level in ("TRACE", "DEBUG")
    place = "<dim>{time:HH:mm:ss.SSS} {name}:{line}</dim> " if detailed else ""
    logger.add(
        _write,
        colorize=sys.stderr.isatty() and "NO_COLOR" not in os.environ,
        level=level,
        format=f"{place}<level>{{level.name}}</level>: {{message}}",
        backtrace=False,
        diagnose=False,  # it would print the values of variables, and records are none of the log's business
    )
    logger.enable("curate")


def _write(line: str) -> None:
    sys.stderr.write(line)  # looked up each time, because a live display takes it over while it is drawn
