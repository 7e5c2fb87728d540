"""CUDA's streams, events and pinned memory on the CPU: what a stream is given is done when something waits for it.

Until then the GPU's copy of a batch holds no numbers, so whatever is read or overwritten too early is seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from curate.models.side_stream import CAPTURES


class FakeStream:
    """Work in order, done as late as possible; with `lazy` False, at once."""

    def __init__(self, lazy: bool = True, priority: int = 0) -> None:
        self.lazy = lazy
        self.priority = priority
        self.waiting: list[Callable[[], object]] = []

    def do(self, work: Callable[[], object]) -> None:
        self.waiting.append(work)
        if not self.lazy:
            self.synchronize()

    def synchronize(self) -> None:
        while self.waiting:
            self.do_next()

    def do_next(self) -> None:
        import torch

        with torch.inference_mode():  # as the code that gave this work to the stream
            self.waiting.pop(0)()

    def wait_event(self, event: FakeEvent) -> None:
        self.do(event.synchronize)

    def wait_stream(self, other: FakeStream) -> None:
        self.do(other.synchronize)


class FakeEvent:
    """A mark in a stream."""

    def __init__(self, **_: Any) -> None:
        self.is_done = False
        self._stream: FakeStream | None = None

    def record(self, stream: FakeStream) -> None:
        self._stream, self.is_done = stream, False
        stream.do(self._reach)

    def _reach(self) -> None:
        self.is_done = True

    def synchronize(self) -> None:
        while not self.is_done:
            assert self._stream is not None and self._stream.waiting, "the event was never recorded"
            self._stream.do_next()


class FakeGraph:
    """A captured call of a function: `replay` computes it again from the tensors that it was given then."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def replay(self) -> None:
        assert self.calls, "nothing was captured"
        for call in self.calls:
            call()


class FakeCuda:
    """`torch.cuda`.

    Attributes:
        captures: the number of captures so far.
        failing: what a capture raises at its end, in place of ending.
        broken: what `synchronize` raises.
        reserved: what `memory_reserved` says; each capture adds `per_capture`.
        cached: the part of it that `empty_cache` and the beginning of a capture release.
        captured_on: the stream and the pool of each capture that was begun.
        allocating_to: the pool of the capture that the allocator believes in; an error at its end leaves it.
    """

    def __init__(self, lazy: bool = True) -> None:
        self.lazy = lazy
        self.model_stream = FakeStream(lazy)
        self.current = self.model_stream
        self.streams: list[FakeStream] = []
        self.capturing: FakeGraph | None = None
        self.captures = 0
        self.failing: Exception | None = None
        self.broken: Exception | None = None
        self.reserved, self.per_capture, self.cached = 0, 0, 0
        self.captured_on: list[tuple[FakeStream, object]] = []
        self.allocating_to: object | None = None
        self.CUDAGraph = FakeGraph
        self.Event = FakeEvent

    def Stream(self, device: Any = None, priority: int = 0) -> FakeStream:  # noqa: N802 (torch's name)
        self.streams.append(FakeStream(self.lazy, priority))
        return self.streams[-1]

    def current_stream(self, device: Any = None) -> FakeStream:
        return self.current

    @contextmanager
    def stream(self, stream: FakeStream) -> Generator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def graph_pool_handle(self) -> object:
        return object()

    @contextmanager
    def graph(self, graph: FakeGraph, *, pool: Any, stream: FakeStream, capture_error_mode: str) -> Generator[None]:
        assert capture_error_mode == "thread_local"
        self.empty_cache()
        self.captured_on.append((stream, pool))
        self.capturing, self.allocating_to = graph, pool
        self.current = stream
        yield  # as torch's, this one restores nothing after an error
        self.capturing = None
        if self.failing is not None:
            raise self.failing
        self.allocating_to = None
        self.captures += 1
        self.reserved += self.per_capture

    def empty_cache(self) -> None:
        self.reserved -= self.cached
        self.cached = 0

    def current_device(self) -> int:
        return 0

    def end_allocation(self, device: int, pool: object) -> None:
        if self.allocating_to is not pool:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.allocating_to = None

    def synchronize(self, device: Any = None) -> None:
        if self.broken is not None:
            raise self.broken

    def memory_reserved(self, device: Any) -> int:
        return self.reserved

    def record(self, call: Callable[[], object]) -> None:
        """Keep a call in the graph that is being captured, if there is one."""
        if self.capturing is not None:
            self.capturing.calls.append(call)


class FakeTorch:
    """torch with a fake `cuda`; memory that it pins is known, and its copies to the device are work of a stream."""

    def __init__(self, cuda: FakeCuda) -> None:
        import torch

        self._torch = torch
        self.cuda = cuda
        self._C = SimpleNamespace(_cuda_endAllocateToPool=cuda.end_allocation)
        self._pins: list[weakref.ref[Any]] = []

        class Pinned(torch.Tensor):
            def to(self, device: Any, *, non_blocking: bool = False) -> Any:  # type: ignore[override]
                assert non_blocking, "the CPU waits for this copy"
                source = self.as_subclass(torch.Tensor)
                copy = torch.full_like(source, -1)
                cuda.current.do(lambda: copy.copy_(source))
                return copy

        self._pinned = Pinned

    def __getattr__(self, name: str) -> Any:
        return getattr(self._torch, name)

    def empty(self, *args: Any, pin_memory: bool = False, **options: Any) -> Any:
        made = self._torch.empty(*args, **options)
        if pin_memory:
            made = made.as_subclass(self._pinned)
            self._pins.append(weakref.ref(made))
        return made

    @property
    def pinned(self) -> list[Any]:
        """The pinned tensors that are still there."""
        return [tensor for pin in self._pins if (tensor := pin()) is not None]


class RecordedEncoder:
    """A NeMo encoder whose calls are kept in the graph that is being captured.

    Attributes:
        calls: rows and frames of each call.
    """

    def __init__(self, encoder: Any, cuda: FakeCuda) -> None:
        self.encoder = encoder
        self.cuda = cuda
        self.calls: list[tuple[int, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)

    def __call__(self, *, audio_signal: Any, length: Any) -> Any:
        self.calls.append((int(audio_signal.shape[0]), int(audio_signal.shape[2])))
        found = self.encoder(audio_signal=audio_signal, length=length)
        if self.cuda.capturing is not None:
            assert CAPTURES.locked(), "another thread may prepare a batch meanwhile"

        def again() -> None:
            for kept, new in zip(found, self.encoder(audio_signal=audio_signal, length=length), strict=True):
                kept.copy_(new)

        self.cuda.record(again)
        return found
