"""Keeps other threads of a process from Python while one of them launches the kernels of a batch.

torch releases Python's global lock (GIL) in each call, and a batch has more than a thousand. Where another thread waits
for that lock, each release wakes it, and each call may have to wait for the lock in turn: that can cost more than the
call itself, and a GPU that waits for its kernels is idle. So threads that prepare or finish other batches call
`wait_for_launches` before each piece of work. They still have the time in which the GPU works.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from threading import Event

_IDLE = Event()
_IDLE.set()


@contextmanager
def launching() -> Generator[None]:
    """Make `wait_for_launches` wait in here. One thread at a time: the caller holds the lock of the GPU."""
    _IDLE.clear()
    try:
        yield
    finally:
        _IDLE.set()


def wait_for_launches() -> None:
    """Wait until no kernels are being launched; returns at once on the CPU, where there are none."""
    _IDLE.wait()
