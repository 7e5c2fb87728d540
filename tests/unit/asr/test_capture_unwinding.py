"""An error inside of a captured loop ends the captures of its bodies, and restores the stream."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from curate.asr.capture_unwinding import interrupted_by_oom, unwinding


class Streams:
    """CUDA's streams as far as captures concern them, with NeMo's context manager around a body."""

    def __init__(self) -> None:
        self.current = "whole"
        self.capturing = ["whole"]
        cuda = SimpleNamespace(current_stream=lambda device: self.current, set_stream=self._make_current)
        self.torch = SimpleNamespace(cuda=cuda)

    def _make_current(self, stream: str) -> None:
        self.current = stream

    @contextmanager
    def body(self, name: str, device: str) -> Generator[tuple[str, str]]:
        """Behave as `nemo.core.utils.cuda_python_utils.with_conditional_node`, which unwinds nothing."""
        before = self.current
        self.capturing.append(name)
        self.current = name
        yield name, "graph"
        self.capturing.remove(name)
        self.current = before


@pytest.mark.parametrize("wrapped", [True, False])
def test_error_in_a_nested_body_ends_both_captures(wrapped: bool) -> None:
    streams = Streams()
    body: Any = unwinding(streams.body, streams.torch, streams.capturing.remove) if wrapped else streams.body

    def fail() -> None:
        with body("outer", device="cuda"), body("inner", device="cuda"):
            assert streams.current == "inner"
            raise MemoryError

    with pytest.raises(MemoryError):
        fail()
    assert (streams.current, streams.capturing) == (
        ("whole", ["whole"]) if wrapped else ("inner", ["whole", "outer", "inner"])
    )


def test_bodies_without_an_error_are_left_to_nemo() -> None:
    streams = Streams()
    body = unwinding(streams.body, streams.torch, lambda stream: pytest.fail(f"{stream} was ended twice"))
    with body("outer", device="cuda"), body("inner", device="cuda"):
        pass
    assert (streams.current, streams.capturing) == ("whole", ["whole"])


def test_oom_is_found_below_other_errors() -> None:
    oom = MemoryError()
    end = RuntimeError("Capture must end on the same stream it began on.")
    end.__context__ = oom
    assert interrupted_by_oom(end) is oom
    assert interrupted_by_oom(RuntimeError("CUDA error: device-side assert triggered")) is None
