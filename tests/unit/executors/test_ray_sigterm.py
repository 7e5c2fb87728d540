"""Connecting to Ray leaves SIGTERM to whoever had it before."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from curate.executors.ray import RayExecutor

pytestmark = pytest.mark.ray


class Stop(BaseException):
    pass


@pytest.fixture
def ours() -> Iterator[Any]:
    def stop(*_: Any) -> None:
        raise Stop

    before = signal.signal(signal.SIGTERM, stop)
    yield stop
    signal.signal(signal.SIGTERM, before)


def replacing(*, killed: bool) -> Any:
    """Return what does to SIGTERM as `ray.init` does."""

    def init(**_: Any) -> None:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
        if killed:
            os.kill(os.getpid(), signal.SIGTERM)

    return init


def test_the_handler_of_before_is_there_again(ray: Any, ours: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", replacing(killed=False))
    monkeypatch.setattr(ray, "nodes", list)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "put", lambda _: None)
    monkeypatch.setattr(ray, "available_resources", dict)
    executor = RayExecutor(address="auto")
    executor.open([])
    executor.close()
    assert signal.getsignal(signal.SIGTERM) is ours


def test_a_signal_while_connecting_reaches_it(ray: Any, ours: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", replacing(killed=True))
    with pytest.raises(Stop):
        RayExecutor(address="auto").open([])
    assert signal.getsignal(signal.SIGTERM) is ours
