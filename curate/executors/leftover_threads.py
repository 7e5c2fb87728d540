"""Threads that a stage has left behind: they keep a process from ending, and nothing says so.

Python waits for every thread that is not a daemon before a process ends. Threads of a `ThreadPoolExecutor` end by
themselves at that moment, so a thread is left over only when it is still there some seconds later.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

LEFTOVER_S = 5.0
"""The time that threads of stages have to end after the teardown."""


def end_without_leftover_threads(warn: Callable[[str], None], code: int, wait_s: float = LEFTOVER_S) -> None:
    """Let this process end within `wait_s` seconds from now, whatever threads are left.

    Args:
        warn: receives a sentence with the names of the threads that the process does not wait for.
        code: the exit code.
        wait_s: how long the threads may take to end by themselves.
    """

    def watch() -> None:
        threading.Event().wait(wait_s)  # as a daemon, this thread ends with the process, which is the usual case
        left = leftover_threads()
        if not left:
            return
        warn(f"{describe_threads(left)}; the process ended without waiting for more than {wait_s:g} s")
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)

    threading.Thread(target=watch, name="curate exit", daemon=True).start()


def leftover_threads() -> list[threading.Thread]:
    """Return the running threads that keep this process from ending."""
    main_thread = threading.main_thread()
    return [thread for thread in threading.enumerate() if not thread.daemon and thread is not main_thread]


def ends_at_exit(thread: threading.Thread) -> bool:
    """Return whether a thread belongs to a `ThreadPoolExecutor`, which ends its threads when the process ends."""
    return _code_of(thread) == "concurrent.futures.thread._worker"


def describe_threads(threads: Sequence[threading.Thread]) -> str:
    """Name threads of stages and the code that they run, with what to do."""
    names = ", ".join(f"{thread.name!r} ({_code_of(thread)})" for thread in threads)
    return (
        f"a stage has left a thread running after teardown(), which keeps the process from ending: {names}; "
        "end it in teardown(), or create it with daemon=True"
    )


def _code_of(thread: threading.Thread) -> str:
    """Return the function or class that a thread runs, as `module.name`."""
    target = getattr(thread, "_target", None)  # there is no public way to it
    code: Any = type(thread) if target is None else target
    return f"{getattr(code, '__module__', '?')}.{getattr(code, '__qualname__', type(code).__name__)}"
