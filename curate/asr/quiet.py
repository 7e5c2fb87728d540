"""Keeps NeMo's flood of messages away from the terminal, and its errors in sight.

NeMo configures its own logger at import: everything from INFO up goes to stdout or stderr, a second time into buffers
that nobody ever empties, and Python's warnings are redirected there as well. A worker's stdout and stderr are the
run's, so NeMo's logger is rewired for good when a model is set up: errors become loguru warnings (what is fatal is
raised besides), warnings become loguru debug messages, the rest is dropped.
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
def quiet_nemo() -> Generator[None]:
    """Import NeMo and restore its models in here: no message reaches the terminal, exceptions pass.

    Raises:
        ImportError: NeMo or one of its dependencies is not installed.
    """
    with warnings.catch_warnings():  # also puts back `warnings.showwarning`, which NeMo replaces
        warnings.simplefilter("ignore")
        _rewire()
        nemo_logging: Any = import_module("nemo.utils").logging
        nemo_logging.captureWarnings(False)
        _rewire()  # NeMo has added its own handlers meanwhile
        yield


def _rewire() -> None:
    for name in _TALKATIVE:
        talkative = logging.getLogger(name)
        talkative.handlers[:] = [_ToLoguru()]
        talkative.setLevel(logging.WARNING)
        talkative.propagate = False


class _ToLoguru(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        level = "WARNING" if record.levelno >= logging.ERROR else "DEBUG"
        logger.log(level, "{}: {}", record.name, " ".join(record.getMessage().split()))
