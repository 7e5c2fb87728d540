"""WebRTC's voice detector: small, fast and rough. It takes music and much noise for speech."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata, util
from typing import TYPE_CHECKING, Any

from curate.errors import PlanError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]
    Probabilities = npt.NDArray[np.float32]

_FRAME = 160
_SMOOTHED = 5


class WebrtcDetector:
    """Averages WebRTC's decisions over 50 ms.

    Args:
        mode: 0 to 3, how reluctantly a frame is called speech.
    """

    rate_hz = 16_000
    frame_s = _FRAME / 16_000
    threshold = 0.5

    def __init__(self, mode: int = 2) -> None:
        if mode not in (0, 1, 2, 3):
            raise ValueError(f"mode={mode!r} must be 0, 1, 2 or 3")
        self._mode = mode
        self._module: Any = None

    def check(self) -> None:
        """Check that webrtcvad is installed."""
        if util.find_spec("webrtcvad") is None:
            raise PlanError("engine 'webrtc' needs webrtcvad: pip install 'curate-speech[webrtc]'")

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the version of the library."""
        return {"webrtcvad-wheels": metadata.version("webrtcvad-wheels")}

    def setup(self) -> None:
        """Import webrtcvad."""
        import webrtcvad

        self._module = webrtcvad

    def probabilities(self, blocks: Iterable[Samples]) -> Iterator[Probabilities]:
        """Yield the share of speech among the decisions on each frame and its neighbours."""
        import numpy as np

        vad = self._module.Vad(self._mode)  # its noise model begins anew with every recording
        around = _SMOOTHED // 2
        held = np.zeros(0, np.float32)
        width = np.full(_SMOOTHED, 1 / _SMOOTHED, np.float32)
        first = True
        for flags in self._flags(vad, blocks):
            if first and len(flags):
                held = np.repeat(flags[:1], around)
                first = False
            held = np.concatenate([held, flags])
            if len(held) >= _SMOOTHED:
                yield np.convolve(held, width, mode="valid").astype(np.float32)
                held = held[len(held) - _SMOOTHED + 1 :]
        if not first:
            rest = np.concatenate([held, np.repeat(held[-1:], around)])
            if len(rest) >= _SMOOTHED:
                yield np.convolve(rest, width, mode="valid").astype(np.float32)

    def _flags(self, vad: Any, blocks: Iterable[Samples]) -> Iterator[Probabilities]:
        import numpy as np

        rest = np.zeros(0, np.int16)
        for block in blocks:
            scaled = np.clip(np.round(block * 32768), -32768, 32767).astype(np.int16)
            joined = np.concatenate([rest, scaled])
            frames = len(joined) // _FRAME
            rest = joined[frames * _FRAME :]
            yield self._decide(vad, joined[: frames * _FRAME])
        if len(rest):
            yield self._decide(vad, np.pad(rest, (0, _FRAME - len(rest))))

    def _decide(self, vad: Any, samples: npt.NDArray[np.int16]) -> Probabilities:
        import numpy as np

        content = samples.tobytes()
        size = 2 * _FRAME
        decided = (vad.is_speech(content[at : at + size], self.rate_hz) for at in range(0, len(content), size))
        return np.fromiter(decided, np.float32)
