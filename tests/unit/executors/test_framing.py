"""Frames on a socket, which come in pieces of any size."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from curate.executors.framing import Frame, Frames, FrameType, framed, header

frames = st.lists(st.tuples(st.sampled_from(FrameType), st.integers(0, 2**64 - 1), st.binary(max_size=70)), max_size=12)


@given(frames, st.lists(st.integers(0, 40), min_size=1, max_size=60))
def test_frames_cut_anywhere_come_out_whole_and_in_order(sent: list[Frame], cuts: list[int]) -> None:
    stream = b"".join(framed(kind, payload, number) for kind, number, payload in sent)
    inbox, heard = Frames(), list[Frame]()
    position = 0
    while position < len(stream):
        size = cuts[position % len(cuts)] or 1
        heard.extend(inbox.feed(stream[position : position + size]))
        position += size
    assert heard == sent


@given(frames)
def test_frames_byte_by_byte_and_all_at_once_are_the_same(sent: list[Frame]) -> None:
    stream = b"".join(framed(kind, payload, number) for kind, number, payload in sent)
    slowly = Frames()
    assert [frame for byte in stream for frame in slowly.feed(bytes([byte]))] == sent
    assert list(Frames().feed(stream)) == sent


def test_a_frame_is_there_with_its_last_byte_and_not_before() -> None:
    inbox, stream = Frames(), framed(FrameType.RESULT, b"payload", 7)
    assert list(inbox.feed(stream[:-1])) == []
    assert list(inbox.feed(stream[-1:])) == [(FrameType.RESULT, 7, b"payload")]


def test_what_was_taken_before_somebody_stopped_listening_does_not_come_again() -> None:
    inbox = Frames()
    both = framed(FrameType.DONE, number=1) + framed(FrameType.DONE, number=2)
    listening: Any = inbox.feed(both)
    assert next(listening) == (FrameType.DONE, 1, b"")
    listening.close()
    assert list(inbox.feed(b"")) == [(FrameType.DONE, 2, b"")]


def test_header_and_payload_may_be_sent_apart() -> None:
    payload = bytes(1000)
    assert header(FrameType.TASK, 3, len(payload)) + payload == framed(FrameType.TASK, payload, 3)
