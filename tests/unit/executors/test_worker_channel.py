"""What a worker sends to the driver is cut into frames there, also when the worker is interrupted."""

from __future__ import annotations

from typing import Any

import pytest

from curate.engine.protocol.interrupt import Interrupted
from curate.executors.framing import Frames, FrameType
from curate.executors.worker_main import Channel


class InterruptedSocket:
    """A socket whose second packet is cut off by SIGTERM, after a number of bytes."""

    def __init__(self, sent_before: int) -> None:
        self.received = bytearray()
        self._sent_before = sent_before
        self._packets = 0

    def sendall(self, packet: bytes) -> None:
        self._packets += 1
        if self._packets == 2:
            self.received += packet[: self._sent_before]
            raise Interrupted
        self.received += packet


@pytest.mark.parametrize("sent_before", [5, 17, 100])
def test_nothing_follows_a_frame_that_an_interrupt_has_cut_off(sent_before: int) -> None:
    sock: Any = InterruptedSocket(sent_before)
    channel = Channel(sock)
    channel.hold(FrameType.READY)
    channel.send()
    channel.hold(FrameType.RESULT, "x" * 100)
    with pytest.raises(Interrupted):
        channel.send()
    for number in range(100):
        channel.hold(FrameType.LOG, ("INFO", 20, f"torn down: {number}"))
    channel.send()
    assert [frame[0] for frame in Frames().feed(bytes(sock.received))] == [FrameType.READY]
