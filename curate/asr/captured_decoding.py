"""Decoding with NeMo's label-looping decoder in CUDA graphs that are as large as needed, and never stale.

NeMo captures its decoding loop for one size of buffers: a number of rows (utterances) and of encoder frames. Three
traits of that code determine this module:

- It replaces its buffers before it captures. An error in between leaves the old graph, which replays over buffers that
  nothing reads: every later batch that fits decodes to empty texts, without an error.
- It captures anew for each batch with more rows, or more frames, than the buffers have, and takes that batch's size:
  batches that are alternately wide and long capture every time.
- Each replay works on all rows of the buffers, so buffers for the largest batch slow down all others.

So buffers have at most `max_rows` rows, and a larger batch is decoded in slices; they grow to the maximum in both
directions together; NeMo's decoder is asked what is captured, instead of remembering it here; and after any exception
everything captured is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from loguru import logger

from curate.gpu_errors import classify_gpu_error

MAX_ROWS = 256
"""Rows of one slice: enough to fill a GPU with this small network, and cheap to replay for a batch of a few."""

_ROW_STEP, _FRAME_STEP = 16, 64
"""Buffers are rounded up to multiples of these, so that a slightly larger batch fits as well."""

_REMEDY = (
    "conditional nodes in CUDA graphs need a `cuda-bindings` release that matches the driver: "
    "`pip install 'cuda-bindings<13'` for drivers of CUDA 12"
)

Decode = Callable[[Any, Any], list[Any]]
"""Decodes (B, D, T) encoder outputs with their (B,) lengths into B hypotheses."""


class CapturedLoop:
    """The decoding loop of a transducer, with its CUDA graphs where NeMo can capture any.

    Args:
        computer: NeMo's label-looping computer; falling back to slower graphs is taken over from it.
        max_rows: the most rows of one slice.
        max_bytes: the most memory that buffers may take; None: no limit. A slice that needs larger ones is decoded
            without graphs.
    """

    def __init__(self, computer: Any, *, max_rows: int = MAX_ROWS, max_bytes: float | None = None) -> None:
        self._computer = computer
        self._rows = max_rows
        self._max_bytes = math.inf if max_bytes is None else max_bytes
        self._captured: tuple[Any, Any] | None = None  # NeMo's state, and the graphs that were captured for it
        self._falls_back = bool(computer.cuda_graphs_allow_fallback)
        computer.cuda_graphs_allow_fallback = False
        if self.mode == "no_while_loops":
            logger.warning("the decoder runs in CUDA graphs without loops, which is slower; {}", _REMEDY)

    @property
    def mode(self) -> str | None:
        """`full_graph`, `no_while_loops` (slower), or None: no graphs."""
        mode = self._computer.cuda_graphs_mode
        return None if mode is None else str(mode.value)

    @property
    def capacity(self) -> tuple[int, int]:
        """The rows and frames that fit into the captured buffers; (0, 0): nothing is captured."""
        state = self._computer.state
        return (0, 0) if state is None else (int(state.batch_size), int(state.max_time))

    def is_sound(self) -> bool:
        """Return whether NeMo's buffers and graphs were captured together, or there are none."""
        state, graphs = self._pair()
        if state is None:
            return True
        return self._captured is not None and self._captured[0] is state and self._captured[1] is graphs

    def reset(self) -> None:
        """Drop everything captured; the next slice captures anew."""
        self._captured = None
        self._computer.reset_cuda_graphs_state()

    def decode(self, decode: Decode, encoded: Any, lengths: Any) -> list[Any]:
        """Decode a batch in slices, each in captured graphs where there are any.

        Args:
            decode: runs NeMo's decoding, and with it the computer.
            encoded: (B, D, T) the encoder's output.
            lengths: (B,) the valid frames of each row.

        Raises:
            RuntimeError: as torch raises it; whatever was captured has been dropped.
        """
        hypotheses: list[Any] = []
        while len(hypotheses) < len(encoded):
            if self.mode is None:
                rest = slice(len(hypotheses), None)
                return hypotheses + decode(encoded[rest], lengths[rest])
            rows = slice(len(hypotheses), len(hypotheses) + self._rows)
            hypotheses += self._decode_slice(decode, encoded[rows], lengths[rows]) or []
        return hypotheses

    def prepare(self, decode: Decode, items: int, frames: int, like: Any) -> bool:
        """Capture once for batches of up to `items` rows and `frames` frames, if that has not been done.

        Fewer rows are captured, and slices are smaller from then on, where buffers of `max_rows` would take too much.

        Args:
            decode: see `decode`.
            items: rows of the largest batch.
            frames: encoder frames of the longest row.
            like: (1, D, 1) an encoder output, for its width, type and device.

        Returns:
            Whether anything was captured.
        """
        frames = max(self.capacity[1], _rounded(frames, _FRAME_STEP))
        rows = self._rows
        while rows > _ROW_STEP and self._bytes(rows, frames, like) > self._max_bytes:
            rows //= 2
        wanted = min(rows, _rounded(items, _ROW_STEP))
        captured_rows, captured_frames = self.capacity
        if self.mode is None or (wanted <= captured_rows and frames <= captured_frames and self.is_sound()):
            return False
        if self._bytes(max(wanted, captured_rows), frames, like) > self._max_bytes:
            if wanted > captured_rows or self._bytes(wanted, frames, like) > self._max_bytes:
                logger.info("{} encoder frames are too long for CUDA graphs; such batches decode without", frames)
                return False
            self.reset()  # what is captured is wider than what fits at this length
        self._rows = rows
        encoded = like.new_zeros((wanted, like.shape[1], frames))
        lengths = import_module("torch").ones(wanted, dtype=import_module("torch").int64, device=like.device)
        self.decode(decode, encoded, lengths)
        return self.capacity != (captured_rows, captured_frames)

    def _decode_slice(self, decode: Decode, encoded: Any, lengths: Any) -> list[Any] | None:
        """Decode at most `max_rows` rows; None: the graphs have changed to a slower kind, try again."""
        if not self.is_sound():
            logger.warning("the captured CUDA graphs do not belong to the decoder's buffers and are dropped")
            self.reset()
        count, frames = len(encoded), int(encoded.shape[2])
        rows, longest = self.capacity
        captures = count > rows or frames > longest
        if captures:
            rows = max(rows, min(self._rows, _rounded(count, _ROW_STEP)))
            longest = max(longest, _rounded(frames, _FRAME_STEP))
            if self._bytes(rows, longest, encoded) > self._max_bytes:
                with self._without_graphs():
                    return decode(encoded, lengths)
            functional = import_module("torch.nn.functional")
            encoded = functional.pad(encoded, (0, longest - frames, 0, 0, 0, rows - count))
            lengths = functional.pad(lengths, (0, rows - count))
        try:
            hypotheses = decode(encoded, lengths)
        except BaseException as error:
            self.reset()
            if not captures or not isinstance(error, Exception) or not self._degrade(error):
                raise
            return None
        self._captured = self._pair()
        return hypotheses[:count]

    def _pair(self) -> tuple[Any, Any]:
        computer = self._computer
        return computer.state, computer.full_graph if self.mode == "full_graph" else computer.separate_graphs

    def _degrade(self, error: Exception) -> bool:
        """Switch to the next slower kind of graphs after a capture that failed; False: the error must be raised.

        Running out of memory and a broken context say nothing about the kind of graphs.
        """
        if not self._falls_back or classify_gpu_error(error) is not None:
            return False
        modes = self._computer.CudaGraphsMode
        was_full = self.mode == "full_graph"
        self._computer.cuda_graphs_mode = modes.NO_WHILE_LOOPS if was_full else None
        cause = error.__cause__ or error
        slower = "without loops" if was_full else "not at all"
        logger.warning(
            "the decoder's CUDA graphs cannot be captured ({}: {}) and are used {}, which is slower; {}",
            type(cause).__name__,
            (str(cause).strip().splitlines() or ["no message"])[0],
            slower,
            _REMEDY,
        )
        return True

    @contextmanager
    def _without_graphs(self) -> Generator[None]:
        """Have NeMo decode eagerly in here; what is captured stays."""
        mode, self._computer.cuda_graphs_mode = self._computer.cuda_graphs_mode, None
        try:
            yield
        finally:
            self._computer.cuda_graphs_mode = mode

    def _bytes(self, rows: int, frames: int, encoded: Any) -> int:
        """Return the memory of buffers: the padded encoder output, two of its projection, and hypotheses twice."""
        computer = self._computer
        parameter = next(computer.joint.parameters())
        projected = int(getattr(computer.joint, "joint_hidden", encoded.shape[1])) * parameter.element_size()
        token = 8 + 8 + 8 + (parameter.element_size() if computer.preserve_step_confidence else 0)
        each = int(encoded.shape[1]) * encoded.element_size() + 2 * projected + 2 * (computer.max_symbols or 10) * token
        return rows * frames * each


class TrimmedComputer:
    """NeMo's label-looping computer, whose hypotheses are cut to what is in use before they are copied to the CPU.

    Hypotheses come in buffers for the largest batch with the most symbols a frame may have: hundreds of megabytes, of
    which a batch fills a few per cent. The state after the last frame, which only streaming needs, is not split into
    one object for each row.
    """

    def __init__(self, computer: Any) -> None:
        self._computer = computer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._computer, name)

    def __call__(self, x: Any, out_len: Any, **options: Any) -> tuple[Any, Any]:
        found, state = self._computer(x=x, out_len=out_len, **options)
        if not found.with_blank_steps:
            rows = len(x)
            longest = int(found.current_lengths[:rows].max())
            for name in ("transcript", "timestamps", "token_durations", "step_confidence"):
                values = getattr(found, name, None)
                if values is not None:
                    setattr(found, name, values[:rows, :longest])
            found.current_lengths = found.current_lengths[:rows]
            found.scores = found.scores[:rows]
        return found, state

    def split_batched_state(self, state: Any) -> list[None]:
        return [None] * len(state.labels)


def _rounded(number: int, step: int) -> int:
    return step * math.ceil(number / step)
