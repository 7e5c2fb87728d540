"""Ends the captures of CUDA graphs that an error interrupts inside of a loop.

NeMo captures the body of a loop on a stream of its own, and makes that stream current meanwhile. An error in the body,
such as memory that runs out, leaves that capture open and that stream current: then torch cannot end the capture of the
whole graph ("must end on the same stream"), and every later call of this thread fails with "operation not permitted
when stream is capturing". Here the body's capture is ended and the stream restored, so that the first error arrives.

NeMo captures in the mode `thread_local`, so other threads may allocate and pin memory meanwhile. What a body itself
allocates comes from where `curate.asr.graph_memory` says.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from curate.asr.graph_memory import body_memory
from curate.gpu_errors import GpuFault, classify_gpu_error

_NODE = "with_conditional_node"


def unwind_captures(computer: Any) -> None:
    """Make the module that defines `computer` end its loops' captures after errors; a second call does nothing."""
    for kind in type(computer).__mro__:
        module = sys.modules.get(kind.__module__)
        original: Any = getattr(module, _NODE, None)
        if original is not None and not hasattr(original, "unwinds"):
            setattr(module, _NODE, unwinding(original, import_module("torch"), _end_capture))


def unwinding(original: Any, torch: Any, end_capture: Any) -> Any:
    """Return `with_conditional_node` with a body whose capture is ended by errors too.

    Args:
        original: NeMo's context manager, which captures the body of a loop on a stream that it makes current.
        torch: the module.
        end_capture: ends the capture on a stream, and raises nothing.
    """

    @contextmanager
    def with_conditional_node(*args: Any, device: Any, **options: Any) -> Generator[Any]:
        before = torch.cuda.current_stream(device=device)
        body: Any = None
        try:
            with original(*args, device=device, **options) as entered:
                body = entered[0]
                with body_memory(torch, device):
                    yield entered
        except BaseException:
            if body is not None:
                end_capture(body)
            torch.cuda.set_stream(before)
            raise

    with_conditional_node.unwinds = True  # type: ignore[attr-defined]
    return with_conditional_node


def interrupted_by_oom(error: BaseException) -> BaseException | None:
    """Return the lack of memory that an error at the end of a capture hides; None: there was none."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        if classify_gpu_error(one) is GpuFault.OUT_OF_MEMORY:
            return one
        seen.add(id(one))
        one = one.__cause__ or one.__context__
    return None


def _end_capture(stream: Any) -> None:
    runtime: Any = import_module("cuda.bindings.runtime")
    runtime.cudaStreamEndCapture(stream.cuda_stream)  # its status says again that the capture has failed
