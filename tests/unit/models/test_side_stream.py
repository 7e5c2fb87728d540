"""A batch is copied and prepared on a stream of its own: nothing is read before it is there, nor overwritten before."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from curate.models.pinned_memory import MAX_SLOT_BYTES, PinnedRing, size_class
from curate.models.side_stream import CAPTURES, SideStream
from tests.unit.models.fake_streams import FakeCuda, FakeTorch

torch: Any = pytest.importorskip("torch", reason="needs torch: make .venv/.dev-all")


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The streams that the allocator is told of."""
    streams: list[Any] = []
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: streams.append(stream))
    return streams


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def fake(cuda: FakeCuda) -> FakeTorch:
    return FakeTorch(cuda)


@pytest.fixture
def side(fake: FakeTorch, used: list[Any]) -> Iterator[SideStream]:
    one = SideStream(fake, "cuda")
    yield one
    one.close()


def batch(*lengths: int, value: float) -> list[Any]:
    return [np.full(length, value + n, np.float32) for n, length in enumerate(lengths)]


def doubled(cuda: FakeCuda) -> Any:
    """Return a computation that is work of the current stream, as a kernel is."""

    def compute(padded: Any, lengths: Any) -> tuple[Any, Any]:
        twice, counts = torch.full_like(padded, -7), torch.zeros_like(lengths)
        cuda.current.do(lambda: twice.copy_(padded * 2))
        cuda.current.do(lambda: counts.copy_(lengths))
        return twice, counts

    return compute


def read(cuda: FakeCuda, prepared: Any) -> tuple[list[list[float]], list[int]]:
    """Read a prepared batch as the model does: by work of the model's stream."""
    found: list[Any] = []
    tensors = prepared.take()
    cuda.model_stream.do(lambda: found.extend(one.tolist() for one in tensors))
    cuda.model_stream.synchronize()
    return found[0], found[1]


def test_model_reads_a_batch_only_after_it_has_been_computed(side: SideStream, cuda: FakeCuda, used: list[Any]) -> None:
    prepared = side.prepare(batch(3, 1, value=1.0), doubled(cuda))
    assert cuda.streams[0].waiting, "nothing has waited for the GPU yet"
    assert read(cuda, prepared) == ([[2.0, 2.0, 2.0], [4.0, 0.0, 0.0]], [3, 1])
    assert used == [cuda.model_stream] * 2


def test_slot_is_refilled_only_after_its_batch_was_copied(side: SideStream, cuda: FakeCuda) -> None:
    batches = [batch(4, 2, 1, value=10.0 * n) for n in range(7)]
    prepared = [side.prepare(one, doubled(cuda)) for one in batches]
    for n, one in enumerate(prepared):
        rows, lengths = read(cuda, one)
        assert rows == [[20.0 * n] * 4, [20.0 * n + 2] * 2 + [0.0] * 2, [20.0 * n + 4] + [0.0] * 3]
        assert lengths == [4, 2, 1]


def test_ring_pins_a_few_buffers_and_grows_by_size_class(side: SideStream, cuda: FakeCuda, fake: FakeTorch) -> None:
    for longest in (100, 90, 2**18, 2**18 + 1, 2**18 - 5, 400_000, 7):
        read(cuda, side.prepare(batch(longest, 5, value=1.0), doubled(cuda)))
    sizes = sorted(one.numel() for one in fake.pinned if one.dtype == torch.float32)
    assert sizes == [2**19, 2**20] == [size_class(2 * 2**18, 1), size_class(2 * 400_000, 1)]
    assert side.pinned_bytes == 4 * (2**19 + 2**20) + 2 * 8 * 64


def test_batch_beyond_the_largest_buffer_is_left_to_the_caller(fake: FakeTorch) -> None:
    ring = PinnedRing(fake, max_slot_bytes=4 * 2**19)
    assert ring.holds(batch(2**18, 5, value=0.0))
    assert not ring.holds(batch(2**18 + 1, 5, value=0.0))
    assert size_class(MAX_SLOT_BYTES // 4, 1) == MAX_SLOT_BYTES // 4
    assert ring.size_bytes == 0


def test_close_finishes_the_copies_and_releases_the_pinned_memory(
    fake: FakeTorch, cuda: FakeCuda, used: list[Any]
) -> None:
    side = SideStream(fake, "cuda")
    side.prepare(batch(3, value=1.0), doubled(cuda))
    assert len(fake.pinned) == 2
    side.close()
    assert not cuda.streams[0].waiting
    assert (len(fake.pinned), side.pinned_bytes) == (0, 0)


def test_error_while_computing_keeps_the_buffer_until_it_is_copied(side: SideStream, cuda: FakeCuda) -> None:
    first = side.prepare(batch(3, value=5.0), doubled(cuda))

    def fail(padded: Any, lengths: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        side.prepare(batch(3, value=6.0), fail)
    assert side._ring._slots[1].copied is not None
    assert cuda.current is cuda.model_stream
    assert not CAPTURES.locked()
    later = [side.prepare(batch(3, value=value), doubled(cuda)) for value in (7.0, 8.0)]
    assert [read(cuda, one)[0] for one in (first, *later)] == [[[10.0] * 3], [[14.0] * 3], [[16.0] * 3]]


def test_no_batch_is_prepared_while_a_graph_is_captured(side: SideStream, cuda: FakeCuda) -> None:
    started, done = threading.Event(), threading.Event()

    def prepare() -> None:
        started.set()
        side.prepare(batch(3, value=1.0), doubled(cuda))
        done.set()

    with CAPTURES:
        thread = threading.Thread(target=prepare)
        thread.start()
        assert started.wait(30)
        assert not done.wait(0.05)
        assert not cuda.streams[0].waiting
    thread.join(30)
    assert done.is_set()


def test_side_stream_is_never_one_of_those_that_captures_take(side: SideStream, cuda: FakeCuda) -> None:
    assert cuda.streams[0].priority == -1  # torch keeps streams of other priorities apart


def test_prepared_batch_is_taken_once(side: SideStream, cuda: FakeCuda) -> None:
    prepared = side.prepare(batch(3, value=1.0), doubled(cuda))
    assert prepared is not None
    prepared.take()
    with pytest.raises(AssertionError, match="once"):
        prepared.take()
