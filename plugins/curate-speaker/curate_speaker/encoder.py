"""The speaker encoder of Resemblyzer: an LSTM over 1.6 s of a voice, trained to distinguish speakers (GE2E)."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from importlib import import_module, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import InfrastructureError, PlanError
from curate.models import Clip, EngineModel, Rows

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]
    Features = npt.NDArray[np.float32]

_RATE_HZ = 16_000
_FFT, _HOP, _MELS = 400, 160, 40
_FRAMES = 160
"""The features of a call: 1.6 s."""

_STEP = 77
"""The frames from one call to the next: 1.3 calls a second, as in Resemblyzer."""

_COVERAGE = 0.75
"""The share of its length that the last call must have."""

_LOUDNESS_DBFS = -30.0
_HIDDEN, _LAYERS = 256, 3


class ResemblyzerEncoder(EngineModel):
    """Embeddings of 256 numbers, of the windows' calls together.

    Args:
        model: the path of a checkpoint with Resemblyzer's `model_state`; None: that of an installed `resemblyzer`.
    """

    rate_hz = _RATE_HZ
    writes = ("embedding",)

    def __init__(self, model: str | None = None) -> None:
        self._model = model
        self._torch: Any = None
        self._network: Any = None
        self._device: Any = None

    def check(self) -> None:
        """Check that torch and the weights are installed."""
        if util.find_spec("torch") is None:
            raise PlanError("engine 'resemblyzer' needs torch: pip install torch")
        self.weights()

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the sha256 of the weights."""
        return {"model": hashlib.sha256(self.weights().read_bytes()).hexdigest()}

    def setup(self) -> None:
        """Load the weights, and nothing else of a checkpoint, on the device of the resources."""
        torch: Any = import_module("torch")
        if self.resources.threads is not None:
            torch.set_num_threads(self.resources.threads)
        if self.resources.on_gpu and not torch.cuda.is_available():
            raise InfrastructureError("engine 'resemblyzer': torch sees no GPU here; run it without `gpus`")
        state = torch.load(self.weights(), map_location="cpu", weights_only=True)["model_state"]
        network = torch.nn.ModuleDict(
            {
                "lstm": torch.nn.LSTM(_MELS, _HIDDEN, _LAYERS, batch_first=True),
                "linear": torch.nn.Linear(_HIDDEN, _HIDDEN),
            }
        )
        # The checkpoint has two more numbers, of the loss.
        network.load_state_dict({name: state[name] for name in network.state_dict()})
        self._torch, self._device = torch, torch.device(self.resources.device)
        self._network = network.eval().requires_grad_(requires_grad=False).to(self._device)

    def close(self) -> None:
        """Release the weights."""
        self._network = None

    def infer(self, clips: Sequence[Clip]) -> Rows:
        """Return the embedding of each clip: on a GPU all together, on the CPU one by one: the bits are fixed."""
        import numpy as np

        calls = [_calls(clip.samples) for clip in clips]
        if self._device.type == "cpu":
            partials = [self._embed(each) for each in calls]
        else:
            found = self._embed(np.concatenate(calls))
            partials = np.split(found, np.cumsum([len(each) for each in calls])[:-1])
        return [{"embedding": _direction(each)} for each in partials]

    def _embed(self, calls: Features) -> Any:
        torch = self._torch
        with torch.inference_mode():
            _, (hidden, _) = self._network["lstm"](torch.from_numpy(calls).to(self._device))
            raw = self._network["linear"](hidden[-1]).relu()
            # A voice that excites nothing has no direction; its embedding is 0.
            return (raw / raw.norm(dim=1, keepdim=True).clamp_min(1e-12)).cpu().numpy()

    def weights(self) -> Path:
        """Return the path of the checkpoint, or raise `PlanError` where there is none."""
        if self._model is not None:
            path = Path(self._model)
        else:
            spec = util.find_spec("resemblyzer")  # found, and never imported: it needs librosa and scipy
            if spec is None or not spec.submodule_search_locations:
                raise PlanError(
                    "engine 'resemblyzer' has no weights: pip install --no-deps Resemblyzer, "
                    "or name a checkpoint in options: {model: …}"
                )
            path = Path(spec.submodule_search_locations[0], "pretrained.pt")
        if not path.is_file():
            raise PlanError(f"engine 'resemblyzer': there is no checkpoint at {str(path)!r}")
        return path


def _direction(partials: Any) -> Any:
    import numpy as np

    mean = np.asarray(partials, np.float64).mean(axis=0)
    length = float(np.sqrt(np.einsum("i,i->", mean, mean)))
    return mean / length if length > 0 else mean


def _calls(samples: Samples) -> Features:
    """Return the features of every call, `(calls, 160, 40)`."""
    import numpy as np

    loud = _louder(samples)
    frames = len(loud) // _HOP + 1
    steps = max(1, frames - _FRAMES + _STEP + 1)
    starts = list(range(0, steps, _STEP))
    if len(starts) > 1 and len(loud) - starts[-1] * _HOP < _COVERAGE * _FRAMES * _HOP:
        starts.pop()
    needed = (starts[-1] + _FRAMES) * _HOP
    features = mel_features(np.pad(loud, (0, max(0, needed - len(loud)))))
    return np.stack([features[start : start + _FRAMES] for start in starts])


def _louder(samples: Samples) -> Samples:
    """Return a quiet recording with −30 dBFS, and a louder one as it is."""
    import numpy as np

    power = float(np.einsum("i,i->", samples, samples, dtype=np.float64)) / len(samples)
    if power <= 0:
        return samples
    gain_db = _LOUDNESS_DBFS - 10 * np.log10(power)
    return samples if gain_db <= 0 else (samples * 10 ** (gain_db / 20)).astype(np.float32)


def mel_features(samples: Samples) -> Features:
    """Return the mel spectrogram, in power, `(frames, 40)`: frames of 25 ms, every 10 ms, centred."""
    import numpy as np

    padded = np.pad(samples, _FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FFT) / _FFT)
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    return (power @ _mel_filters().T).astype(np.float32)


@functools.cache
def _mel_filters() -> npt.NDArray[np.float64]:
    """Return triangles on Slaney's mel scale, of equal area: linear below 1 kHz, logarithmic above."""
    import numpy as np

    step_hz, log_step = 200 / 3, np.log(6.4) / 27
    scale: Any = np.linspace  # whose stubs leave the type open
    mels: npt.NDArray[np.float64] = scale(0.0, 15 + np.log(8.0) / log_step, _MELS + 2)
    edges_hz: npt.NDArray[np.float64] = np.where(mels < 15, mels * step_hz, 1000 * np.exp(log_step * (mels - 15)))
    bins_hz = np.fft.rfftfreq(_FFT, 1 / _RATE_HZ)
    rising = (bins_hz - edges_hz[:-2, None]) / np.diff(edges_hz)[:-1, None]
    falling = (edges_hz[2:, None] - bins_hz) / np.diff(edges_hz)[1:, None]
    return np.maximum(0, np.minimum(rising, falling)) * (2 / (edges_hz[2:] - edges_hz[:-2]))[:, None]
