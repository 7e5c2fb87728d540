"""Other threads wait while the kernels of a batch are launched, and for no longer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from curate.asr.launching import launching, wait_for_launches


def test_thread_waits_until_the_kernels_are_launched() -> None:
    began = Event()

    def work() -> str:
        began.set()
        wait_for_launches()
        return "done"

    with ThreadPoolExecutor(1) as pool:
        with launching():
            future = pool.submit(work)
            assert began.wait(10)
            assert not future.done()
        assert future.result(10) == "done"


def test_error_while_kernels_are_launched_keeps_nothing_waiting() -> None:
    with pytest.raises(MemoryError), launching():
        raise MemoryError
    wait_for_launches()
