"""Keeps NeMo's messages away from the terminal, and its errors in sight.

NeMo configures its own logger at import: everything from INFO up goes to stdout or stderr, a second time into buffers
that are never emptied, and Python's warnings are redirected there as well. A worker's stdout and stderr are the
run's, so NeMo's logger is rewired for good when a model is set up: errors become loguru warnings (what is fatal is
raised in addition), warnings become loguru debug messages, the rest is dropped.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from loguru import logger

_TALKATIVE = ("nemo_logger", "nv_one_logger")


@contextmanager
def quiet_nemo() -> Generator[list[str]]:
    """Import NeMo and restore its models in here: no message reaches the terminal, exceptions pass.

    Yields:
        The errors that NeMo logs meanwhile: where it tries one class after the other, only the log names the first
        cause.

    Raises:
        ImportError: NeMo or one of its dependencies is not installed.
    """
    with warnings.catch_warnings():  # also puts back `warnings.showwarning`, which NeMo replaces
        warnings.simplefilter("ignore")
        errors: list[str] = []
        _rewire(errors)
        nemo_logging: Any = import_module("nemo.utils").logging
        nemo_logging.captureWarnings(False)
        _rewire(errors)  # NeMo has added its own handlers meanwhile
        try:
            yield errors
        finally:
            _rewire([])


def _rewire(errors: list[str]) -> None:
    for name in _TALKATIVE:
        talkative = logging.getLogger(name)
        talkative.handlers[:] = [_ToLoguru(errors)]
        talkative.setLevel(logging.WARNING)
        talkative.propagate = False
        talkative.disabled = False  # `logging.config.dictConfig` disables every logger that it does not name


class _ToLoguru(logging.Handler):
    def __init__(self, errors: list[str]) -> None:
        super().__init__()
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            self._errors.append(record.getMessage())
        level = "WARNING" if record.levelno >= logging.ERROR else "DEBUG"
        logger.log(level, "{}: {}", record.name, " ".join(record.getMessage().split()))
