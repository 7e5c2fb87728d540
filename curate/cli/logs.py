"""Configures the log. The library is silent by default; only the command line enables it."""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import TYPE_CHECKING

from loguru import logger

if TYPE_CHECKING:
    from loguru import Record

LEVELS = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR")


FORMATS = ("text", "json")


def configure(level: str, form: str = "text") -> None:
    """Send log lines of at least this level to standard error, and curate's own among them.

    Args:
        form: `text` for people, or `json`: an object a line, with the fields of the event and its message.
    """
    logger.remove()
    logger.enable("curate")
    if form == "json":
        logger.add(lambda message: _write(_as_json(message.record)), level=level, format="{message}")
        return
    detailed = level in ("TRACE", "DEBUG")
    place = "<dim>{time:HH:mm:ss.SSS} {name}:{line}</dim> " if detailed else ""
    logger.add(
        _write,
        colorize=sys.stderr.isatty() and "NO_COLOR" not in os.environ,
        level=level,
        format=f"{place}<level>{{level.name}}</level>: {{message}}",
        backtrace=False,
        diagnose=False,  # it would print the values of variables, and records do not belong in the log
    )


def _as_json(record: Record) -> str:
    entry = {
        "time": round(record["time"].timestamp(), 3),
        "level": record["level"].name,
        "message": record["message"],
        "place": f"{record['name']}:{record['line']}",
        **record["extra"],
    }
    error = record["exception"]
    if error is not None and error.value is not None:
        entry["exception"] = "".join(traceback.format_exception(error.value))
    return json.dumps(entry, default=str) + "\n"


def _write(line: str) -> None:
    sys.stderr.write(line)  # looked up each time, because a live display takes it over while it is drawn
