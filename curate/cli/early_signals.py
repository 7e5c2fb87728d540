"""What Ctrl-C and SIGTERM do while the command is imported, parsed and planned: before a run takes over.

An exception that is raised in the middle of an import can be swallowed by the module, or leaves it half imported, so
that the next import fails for another reason. During an import the process ends immediately; nothing is written then.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


@contextmanager
def early_signals() -> Generator[None]:
    """Handle signals until the block ends; where a caller has handlers of its own, these stay."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: default for number, default in defaults.items() if signal.getsignal(number) is default}
    for number in before:
        signal.signal(number, _handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is _handle:
                signal.signal(number, handler)


def _handle(number: int, frame: FrameType | None) -> None:
    if _is_importing(frame):
        os.write(2, f"\nerror: {_WORDS[signal.Signals(number)]}\n".encode())
        os._exit(128 + number)
    from curate.cli.interruption import Terminated
    from curate.engine import Interrupted

    raise Terminated if number == signal.SIGTERM else Interrupted


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith("<frozen importlib"):
            return True
        if code.co_name == "<module>" and frame.f_globals.get("__name__") != "__main__":  # a plugins-file, for example
            return True
        frame = frame.f_back
    return False
