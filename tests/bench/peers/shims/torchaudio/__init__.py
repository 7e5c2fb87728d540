"""The one function of torchaudio that the peers call here, for environments where torchaudio does not load.

The wheels of torchaudio on the package index link CUDA and do not load next to a CPU build of torch. SDP's check of
files and NeMo Curator's `ASRStage` call `torchaudio.load`, and nothing else of it, on 16 kHz files; libsndfile, which
torchaudio itself used to decode with, does the same here.
"""

import soundfile
import torch

__version__ = "0+shim"


def load(path: str) -> tuple[torch.Tensor, int]:
    """Return the samples, channels first, and the rate; a file that does not decode is a RuntimeError."""
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return torch.from_numpy(samples.T.copy()), rate_hz
