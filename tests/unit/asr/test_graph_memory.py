"""A CUDA graph with loops is replayed only as long as the memory is there that its loops work in."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from curate.asr import NemoRecogniser
from curate.asr.graph_memory import GraphMemory, allocating_bodies_from, body_memory
from curate.models import torch_device
from curate.models.side_stream import CAPTURES
from tests.models import babble
from tests.unit.asr.fake_graphs import FakeCuda

CLIPS = [babble(seed, 2.0 + seed / 4) for seed in range(7)]
CUDA = SimpleNamespace(type="cuda", index=None)


class Pools:
    """`torch.cuda`, as far as pools and statistics of memory concern it."""

    def __init__(self) -> None:
        self.inside: list[object] = []
        self.freed = 0

    class MemPool: ...

    @contextmanager
    def device(self, device: Any) -> Generator[None]:
        yield

    @contextmanager
    def use_mem_pool(self, pool: object, device: Any) -> Generator[None]:
        assert pool not in self.inside, "already recording to this pool"
        assert device is None, "torch takes no device without an index here"
        self.inside.append(pool)
        try:
            yield
        finally:
            self.inside.remove(pool)

    def memory_stats_as_nested_dict(self, device: Any) -> dict[str, Any]:
        return {"reserved_bytes": {"all": {"freed": self.freed}}} if self.freed else {}


def test_nested_bodies_allocate_from_one_pool_and_leave_it_after_an_error() -> None:
    cuda = Pools()
    torch = SimpleNamespace(cuda=cuda)
    pool = GraphMemory(torch).new_pool(CUDA)

    def capture() -> None:
        with allocating_bodies_from(pool), body_memory(torch, CUDA), body_memory(torch, CUDA):
            assert cuda.inside == [pool]
            raise MemoryError

    for _ in range(2):
        with pytest.raises(MemoryError):
            capture()
        assert cuda.inside == []
    with body_memory(torch, CUDA):
        assert cuda.inside == [], "no graph is captured"


def test_memory_that_the_allocator_released_is_counted() -> None:
    cuda = Pools()
    torch = SimpleNamespace(cuda=cuda)
    memory = GraphMemory(torch)
    assert memory.released_bytes(CUDA) == 0
    cuda.freed = 7
    assert memory.released_bytes(CUDA) == 7
    assert GraphMemory(torch, checks=False).released_bytes(CUDA) == 0
    assert GraphMemory(torch, pools=False).new_pool(CUDA) is None
    assert GraphMemory(SimpleNamespace(cuda=object())).new_pool(CUDA) is None, "an older release of torch"


def texts(recogniser: NemoRecogniser, clips: list[Any]) -> list[str]:
    return [transcript.text for transcript in recogniser.transcribe(clips)]


@pytest.mark.nemo
def test_graph_is_captured_again_after_memory_was_released(recogniser: NemoRecogniser) -> None:
    eager = texts(recogniser, CLIPS)
    cuda = FakeCuda(recogniser)
    memory = cuda.use_memory(pools=False, checks=True)
    for captures in (1, 2, 3):
        for _ in range(2):
            assert texts(recogniser, CLIPS) == eager
        assert not recogniser.prepare(7, 5.0)
        assert len(cuda.captures) == captures
        memory.empty_cache()
    assert recogniser.prepare(7, 5.0)
    assert not CAPTURES.locked()


@pytest.mark.nemo
def test_graph_with_a_pool_of_its_own_outlives_the_cache(recogniser: NemoRecogniser) -> None:
    eager = texts(recogniser, CLIPS)
    cuda = FakeCuda(recogniser)
    memory = cuda.use_memory(pools=True, checks=False)
    cuda.loop._max_graphs = 9
    for _ in range(3):
        for times in (5, 1, 10):
            assert texts(recogniser, CLIPS * times) == eager * times
            memory.empty_cache()
    assert [rows for rows, _ in cuda.captures] == [64, 16, 96]
    assert len(memory.pools) == 3
    cuda.loop.reset()
    assert len(memory.pools) == 0, "the pools are released with their graphs"


@pytest.mark.nemo
def test_graph_without_either_measure_works_in_memory_that_is_gone(recogniser: NemoRecogniser) -> None:
    cuda = FakeCuda(recogniser)
    memory = cuda.use_memory(pools=False, checks=False)
    recogniser.transcribe(CLIPS)
    memory.empty_cache()
    with pytest.raises(RuntimeError, match="illegal memory access"):
        recogniser.transcribe(CLIPS)


def fail_after_the_replay(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the copy of the hypotheses not fit into memory, while the graph is still being replayed."""
    import torch

    def clone() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(cuda.computer.state.batched_hyps, "clone", clone)


@pytest.mark.nemo
def test_memory_of_a_graph_is_released_only_after_its_replay(
    recogniser: NemoRecogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    eager = texts(recogniser, CLIPS)
    cuda = FakeCuda(recogniser)
    memory = cuda.use_memory(pools=True, checks=True)
    assert texts(recogniser, CLIPS) == eager
    [pool] = memory.pools
    released: list[bool] = []
    weakref.finalize(pool, lambda: released.append(not memory.replays))
    del pool
    fail_after_the_replay(cuda, monkeypatch)
    with pytest.raises(torch.OutOfMemoryError):
        recogniser.transcribe(CLIPS)
    monkeypatch.undo()
    gc.collect()
    assert released == [True]
    assert texts(recogniser, CLIPS) == eager


@pytest.mark.nemo
def test_graph_is_kept_where_the_context_is_broken_and_freeing_it_would_end_the_process(
    recogniser: NemoRecogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    cuda = FakeCuda(recogniser)
    memory = cuda.use_memory(pools=True, checks=True)
    recogniser.transcribe(CLIPS)
    kept: list[Any] = []
    monkeypatch.setattr(torch_device, "_KEPT", kept)
    memory.broken = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    fail_after_the_replay(cuda, monkeypatch)
    with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
        recogniser.transcribe(CLIPS)
    memory.broken = None  # whose traceback holds the graph as well
    cuda.loop._pool.clear()
    gc.collect()
    assert len(memory.pools) == 1
    kept.clear()
    gc.collect()
    assert len(memory.pools) == 0
