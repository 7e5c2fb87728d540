"""Ends a call in the main thread that takes too long, where no process of its own can be killed for it."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


class _OverdueError(BaseException):
    """A time limit is over; not an `Exception`, which third-party code may catch on its way."""

    def __str__(self) -> str:
        return f"it has not returned for {self.args[0]:g} s (setup_timeout_s)"


@contextmanager
def time_limit(seconds: float) -> Generator[None]:
    """Raise an error in the block after so many seconds, where that can be done.

    It cannot outside the main thread, where the process has an alarm of its own, on systems without alarms, and as long
    as a library does not return to the interpreter.
    """
    alarm = getattr(signal, "SIGALRM", None)
    if (
        alarm is None
        or math.isinf(seconds)
        or threading.current_thread() is not threading.main_thread()
        or signal.getsignal(alarm) is not signal.SIG_DFL
        or any(signal.getitimer(signal.ITIMER_REAL))
    ):
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise _OverdueError(seconds)

    signal.signal(alarm, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(alarm, signal.SIG_DFL)
