"""Models to measure, from a configuration alone: NeMo's FastConformer, or a plain torch one where NeMo is missing.

The weights are random and seeded. What they hear is gibberish, but it takes the time and the memory of a real model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from curate.asr import Transcript
from curate.models import AudioModel, Clip, ModelCapabilities, Rows
from curate.models.torch_device import TorchMemoryMeter, gpu_uuid

RATE_HZ = 16_000
_FEATURES = 80
_HOP = 160
_FFT = 512
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@frozen
class Size:
    """How large a model is.

    Args:
        layers: of the encoder.
        width: of a frame of the encoder.
        heads: of attention.
        channels: of the convolutions that shorten the features by 8.
        hidden: of the transducer's prediction and joint networks.
        vocabulary: tokens without the blank.
    """

    layers: int
    width: int
    heads: int
    channels: int
    hidden: int
    vocabulary: int


LARGE = Size(layers=17, width=512, heads=8, channels=256, hidden=640, vocabulary=1024)
"""FastConformer Large, about 115 million parameters."""

TINY = Size(layers=2, width=32, heads=4, channels=32, hidden=32, vocabulary=28)


def save_fastconformer(path: Path, size: Size, seed: int = 0) -> Path:
    """Save a NeMo FastConformer with a transducer and an auxiliary CTC head (`EncDecHybridRNNTCTCModel`)."""
    from tests import models

    tokens = [_token(index) for index in range(size.vocabulary)]
    config: dict[str, Any] = models._common() | models._transducer(tokens)
    config["encoder"] |= {
        "n_layers": size.layers,
        "d_model": size.width,
        "n_heads": size.heads,
        "subsampling_conv_channels": size.channels,
    }
    config["model_defaults"] = {"enc_hidden": size.width, "pred_hidden": size.hidden, "joint_hidden": size.hidden}
    config["decoder"]["prednet"]["pred_hidden"] = size.hidden
    config["joint"]["jointnet"]["joint_hidden"] = size.hidden
    config["aux_ctc"] = {
        "ctc_loss_weight": 0.3,
        "use_cer": False,
        "ctc_reduction": "mean_batch",
        "decoder": models._ctc_decoder(tokens) | {"feat_in": size.width},
        "decoding": {"strategy": "greedy"},
    }
    return models._save("EncDecHybridRNNTCTCModel", config, path, seed)


def _token(index: int) -> str:
    """Return the index-th token: letters first, then pairs and triples of letters."""
    letters = " 'abcdefghijklmnopqrstuvwxyz"
    text = ""
    while True:
        index, last = divmod(index, len(letters))
        text = letters[last] + text
        if not index:
            return text
        index -= 1


class TorchConformer(AudioModel):
    """A recogniser around a conformer with a CTC head, in torch alone.

    Its attention keeps all scores of a layer, as NeMo's does, so that its peak memory has a part that grows with the
    square of the length.
    """

    rate_hz = RATE_HZ
    writes = ("text",)

    def __init__(self, size: Size, *, device: str = "cpu", dtype: str = "fp32", seed: int = 0) -> None:
        self.size = size
        self.device = device
        self.dtype = dtype
        self.seed = seed
        self._model: Any = None
        self._on_gpu = device.partition(":")[0] == "cuda"

    def setup(self) -> None:
        import torch

        if self._model is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                model = _network(self.size)
            dtype = getattr(torch, _DTYPES[self.dtype])
            self._model = model.to(device=self.device, dtype=dtype).eval().requires_grad_(False)

    def infer(self, clips: Sequence[Clip]) -> Rows:
        return [one.row() for one in self.transcribe([clip.samples for clip in clips])]

    def capabilities(self) -> ModelCapabilities:
        import torch

        if not self._on_gpu:
            return ModelCapabilities()
        device = torch.device(self.device)
        return ModelCapabilities(meter=TorchMemoryMeter(torch, device), gpu_uuid=gpu_uuid(torch, device))

    def transcribe(self, waveforms: Sequence[Any]) -> list[Transcript]:
        return self._through(waveforms)

    def _through(self, waveforms: Sequence[Any]) -> list[Transcript]:
        import torch

        lengths = [len(waveform) for waveform in waveforms]
        with torch.inference_mode():
            padded = torch.zeros(len(waveforms), max(lengths), pin_memory=self._on_gpu)
            for row, waveform in zip(padded, waveforms, strict=True):
                row[: len(waveform)] = torch.from_numpy(waveform)
            signal = padded.to(self.device, non_blocking=True)
            frames = (torch.tensor(lengths, device=self.device) // _HOP + 1 + 7) // 8
            best = self._model(_spectrum(signal).to(getattr(torch, _DTYPES[self.dtype])), frames)
            heard = best.cpu().tolist()
            counts = frames.tolist()
        return [Transcript(self._fold(row[:count])) for row, count in zip(heard, counts, strict=True)]

    def close(self) -> None:
        import torch

        self._model = None
        if self._on_gpu:
            torch.cuda.empty_cache()

    def _fold(self, best: list[int]) -> str:
        blank = self.size.vocabulary
        before = [blank, *best[:-1]]
        return "".join(_token(one) for one, last in zip(best, before, strict=True) if one not in (last, blank))


def _spectrum(signal: Any) -> Any:
    """Return (B, features, frames) log magnitudes in fp32, bands of equal width."""
    import torch

    window = torch.hann_window(_FFT, device=signal.device)
    spectrum = torch.stft(signal.float(), _FFT, _HOP, window=window, return_complex=True).abs()
    bands = torch.nn.functional.adaptive_avg_pool1d(spectrum.mT, _FEATURES).mT
    bands = (bands + 1e-5).log()
    return bands - bands.mean(dim=2, keepdim=True)


def _network(size: Size) -> Any:
    """Return a module: (B, features, frames) and (B,) valid frames after shortening → (B, frames / 8) best tokens."""
    import torch
    from torch import nn

    class Subsampling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            channels = size.channels
            self.convolutions = nn.Sequential(nn.Conv2d(1, channels, 3, 2, 1), nn.ReLU())
            for _ in range(2):
                self.convolutions.append(nn.Conv2d(channels, channels, 3, 2, 1, groups=channels))
                self.convolutions.append(nn.Conv2d(channels, channels, 1))
                self.convolutions.append(nn.ReLU())
            self.out = nn.Linear(channels * _FEATURES // 8, size.width)

        def forward(self, features: Any) -> Any:
            shortened = self.convolutions(features.mT[:, None])  # (B, channels, frames / 8, bands / 8)
            return self.out(shortened.transpose(1, 2).flatten(2))

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(size.width)
            self.project = nn.Linear(size.width, 3 * size.width)
            self.out = nn.Linear(size.width, size.width)

        def forward(self, frames: Any, padding: Any) -> Any:
            split = self.project(self.norm(frames)).unflatten(2, (3, size.heads, -1)).permute(2, 0, 3, 1, 4)
            queries, keys, values = split.unbind()  # (B, heads, T, width / heads)
            scores = queries @ keys.mT * queries.shape[-1] ** -0.5
            scores = scores.masked_fill(padding[:, None, None], -1e4).softmax(dim=-1)
            return self.out((scores @ values).transpose(1, 2).flatten(2))

    class Convolution(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(size.width)
            self.widen = nn.Conv1d(size.width, 2 * size.width, 1)
            self.depthwise = nn.Conv1d(size.width, size.width, 9, padding=4, groups=size.width)
            self.batch_norm = nn.BatchNorm1d(size.width)
            self.narrow = nn.Conv1d(size.width, size.width, 1)

        def forward(self, frames: Any, padding: Any) -> Any:
            gated = nn.functional.glu(self.widen(self.norm(frames).mT), dim=1).masked_fill(padding[:, None], 0)
            return self.narrow(nn.functional.silu(self.batch_norm(self.depthwise(gated)))).mT

    def feed_forward() -> Any:
        inner = 4 * size.width
        return nn.Sequential(
            nn.LayerNorm(size.width), nn.Linear(size.width, inner), nn.SiLU(), nn.Linear(inner, size.width)
        )

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.after = feed_forward(), feed_forward()
            self.attention, self.convolution = Attention(), Convolution()
            self.norm = nn.LayerNorm(size.width)

        def forward(self, frames: Any, padding: Any) -> Any:
            frames = frames + 0.5 * self.before(frames)
            frames = frames + self.attention(frames, padding)
            frames = frames + self.convolution(frames, padding)
            return self.norm(frames + 0.5 * self.after(frames))

    class Conformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.subsampling = Subsampling()
            self.layers = nn.ModuleList(Layer() for _ in range(size.layers))
            self.head = nn.Linear(size.width, size.vocabulary + 1)

        def forward(self, features: Any, lengths: Any) -> Any:
            frames = self.subsampling(features)
            padding = torch.arange(frames.shape[1], device=frames.device)[None] >= lengths[:, None]
            for layer in self.layers:
                frames = layer(frames, padding)
            return self.head(frames).argmax(dim=-1)

    return Conformer()
