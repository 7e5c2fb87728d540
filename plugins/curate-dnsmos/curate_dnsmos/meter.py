"""DNSMOS, run by onnxruntime: the ratings that listeners would give the voice, the background and the whole."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from importlib import import_module, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import PlanError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]

P835, P808 = "sig_bak_ovr.onnx", "model_v8.onnx"

# The raw scores of P.835 are mapped to ratings by polynomials (C. Reddy and others, DNSMOS P.835, 2022), of degree 2.
_SIG = (-0.08397278, 1.22083953, 0.0052439)
_BAK = (-0.13166888, 1.60915514, -0.39604546)
_OVRL = (-0.06766283, 1.11546468, 0.04602535)

_FFT, _HOP, _MELS = 321, 160, 120


class DnsmosMeter:
    """Rates one window of 9.01 s at a time.

    Args:
        models: the folder with `sig_bak_ovr.onnx` and `model_v8.onnx`; None: that of an installed `speechmos`.
    """

    rate_hz = 16_000
    window_s = 9.01
    columns: Sequence[str] = ("dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak", "dnsmos_p808")

    def __init__(self, models: str | None = None) -> None:
        self._models = models
        self._p835: Any = None
        self._p808: Any = None

    def check(self) -> None:
        """Check that onnxruntime and the models are installed."""
        if util.find_spec("onnxruntime") is None:
            raise PlanError("engine 'dnsmos' needs onnxruntime: pip install onnxruntime")
        self._paths()

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the sha256 of both models."""
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self._paths()}

    def setup(self) -> None:
        """Load the models, for one thread."""
        runtime: Any = import_module("onnxruntime")  # it has no type stubs
        options = runtime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._p835, self._p808 = (
            runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]) for path in self._paths()
        )

    def scores(self, window: Samples) -> Sequence[float]:
        """Return the four ratings of a window."""
        sig, bak, ovrl = self._p835.run(None, {"input_1": window[None]})[0][0]
        features = mel_features(window[:-_HOP])
        p808 = self._p808.run(None, {"input_1": features[None]})[0][0][0]
        return (_rating(ovrl, _OVRL), _rating(sig, _SIG), _rating(bak, _BAK), float(p808))

    def _paths(self) -> tuple[Path, Path]:
        if self._models is not None:
            folder = Path(self._models)
        else:
            spec = util.find_spec("speechmos")  # found, and never imported: it needs librosa
            places = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
            if not places:
                raise PlanError(
                    "engine 'dnsmos' has no models: pip install --no-deps speechmos, "
                    "or name their folder in options: {models: …}"
                )
            folder = places[0] / "dnsmos_models"
        paths = (folder / P835, folder / P808)
        for path in paths:
            if not path.is_file():
                raise PlanError(f"engine 'dnsmos': there is no model at {str(path)!r}")
        return paths


def mel_features(samples: Samples) -> Samples:
    """Return the mel spectrogram that P.808 takes, `(frames, 120)`: decibels below the loudest, from −1 to 1."""
    import numpy as np

    padded = np.pad(samples, _FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP]
    # Periodic, as in an analysis: the last sample of the window would be the first of the next period.
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FFT) / _FFT)
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    mels = power @ _mel_filters().T
    decibels = 10 * np.log10(np.maximum(mels, 1e-10))
    decibels = np.maximum(decibels - decibels.max(), -80.0)
    return ((decibels + 40) / 40).astype(np.float32)


@functools.cache
def _mel_filters() -> npt.NDArray[np.float64]:
    """Return triangles on Slaney's mel scale, of equal area: linear below 1 kHz, logarithmic above."""
    import numpy as np

    step_hz, log_step = 200 / 3, np.log(6.4) / 27
    least, most = 0.0, 15 + np.log(8.0) / log_step
    scale: Any = np.linspace  # whose stubs leave the type open
    mels: npt.NDArray[np.float64] = scale(least, most, _MELS + 2)
    edges_hz: npt.NDArray[np.float64] = np.where(mels < 15, mels * step_hz, 1000 * np.exp(log_step * (mels - 15)))
    bins_hz = np.fft.rfftfreq(_FFT, 1 / 16_000)
    rising = (bins_hz - edges_hz[:-2, None]) / np.diff(edges_hz)[:-1, None]
    falling = (edges_hz[2:, None] - bins_hz) / np.diff(edges_hz)[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return triangles * (2 / (edges_hz[2:] - edges_hz[:-2]))[:, None]


def _rating(raw: float, polynomial: tuple[float, float, float]) -> float:
    square, linear, constant = polynomial
    return square * float(raw) ** 2 + linear * float(raw) + constant
