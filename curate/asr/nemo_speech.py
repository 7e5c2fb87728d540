"""NeMo's models that label speech: whose voice it is, which language, and where speech is.

Each is restored once, frozen, and called without a data loader, in fp32. On the CPU windows go through the model one by
one, so that a result has the same bits whatever else is in a batch; on a GPU they go together, padded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module, util
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from curate.asr.checkpoint import INSTALL, read_checkpoint, restore
from curate.asr.nemo import chosen_device, settle
from curate.errors import InfrastructureError, PlanError
from curate.models import Clip, EngineModel, ModelResources, Rows

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]
    Probabilities = npt.NDArray[np.float32]

SPEAKER_CLASSES = MappingProxyType({"EncDecSpeakerLabelModel": ("embedding", "labels")})
"""TitaNet, SpeakerNet and ECAPA for speakers, AmberNet for languages."""

VOICE_CLASSES = MappingProxyType(
    {"EncDecClassificationModel": ("windows",), "EncDecFrameClassificationModel": ("frames",)}
)
"""MarbleNet for windows of 0.63 s, and for frames."""


class NemoSpeech(EngineModel):
    """What NeMo's models that label speech have in common.

    Args:
        model: the path of a `.nemo` file.
    """

    _classes: Mapping[str, tuple[str, ...]] = SPEAKER_CLASSES

    def __init__(self, model: str) -> None:
        self._path = Path(str(model)).expanduser()
        self._model: Any = None
        self._torch: Any = None
        self._device: Any = None

    def check(self) -> None:
        """Check that NeMo is installed, and that the file is a model of a class that can be run.

        Raises:
            PlanError: one of the two is not so.
        """
        if util.find_spec("nemo") is None:
            raise PlanError(f"engine 'nemo' needs nemo_toolkit: {INSTALL}")
        read_checkpoint(self._path, self._classes)

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the sha256 of the model."""
        with self._path.open("rb") as file:
            return {"model": hashlib.file_digest(file, "sha256").hexdigest()}

    def setup(self) -> None:
        """Restore the model, on the device of the resources.

        Raises:
            InfrastructureError: the model, NeMo or the device is missing, or they do not go together.
        """
        try:
            checkpoint = read_checkpoint(self._path, self._classes)
        except PlanError as error:
            raise InfrastructureError(str(error)) from error
        model = restore(checkpoint)
        torch: Any = import_module("torch")
        device = chosen_device(torch, self.resources.device)
        if self.resources.threads is not None:
            torch.set_num_threads(self.resources.threads)
        settle(model)
        self._torch, self._device, self._model = torch, device, model.to(device)
        self.rate_hz = int(model.preprocessor._sample_rate)  # noqa: SLF001 (NeMo has no public name for it)
        featurizer = model.preprocessor.featurizer
        self.hop = int(featurizer.hop_length)
        self.kind = checkpoint.decoders[0]

    def close(self) -> None:
        """Release the model."""
        self._model = None

    def outputs(self, windows: Sequence[Samples]) -> list[Any]:
        """Return the output of each window."""
        if self._device.type == "cpu":
            return [row for window in windows for row in self._forward([window])]
        return self._forward(windows)

    def _forward(self, windows: Sequence[Samples]) -> list[Any]:
        import numpy as np

        # NeMo's features of less than two frames have no variance.
        lengths = [max(len(window), 2 * self.hop) for window in windows]
        padded = np.zeros((len(windows), max(lengths)), np.float32)
        for place, window in enumerate(windows):
            padded[place, : len(window)] = window
        torch = self._torch
        with torch.inference_mode():
            signal = torch.from_numpy(padded).to(self._device)
            length = torch.tensor(lengths, device=self._device)
            return self._output(self._model.forward(input_signal=signal, input_signal_length=length))

    def _output(self, found: Any) -> list[Any]:
        """Return one array for each window of a batch."""
        raise NotImplementedError

    def labels(self) -> list[str]:
        """Return the labels of the model, in the order of its outputs."""
        config: Any = self._model.cfg
        training: Any = config.get("train_ds")
        found: Any = config.get("labels") or (training and training.get("labels"))
        return [str(label) for label in found or ()]


class NemoSpeakerEncoder(NemoSpeech):
    """Embeddings of speakers, such as those of TitaNet; see `NemoSpeech` for the argument."""

    writes = ("embedding",)

    def infer(self, clips: Sequence[Clip]) -> Rows:
        """Return the embedding of each clip."""
        return [{"embedding": vector} for vector in self.outputs([clip.samples for clip in clips])]

    def _output(self, found: Any) -> list[Any]:
        return list(found[1].float().cpu().numpy())


class NemoLanguageIdentifier(NemoSpeech):
    """The probabilities of languages, such as those of AmberNet; see `NemoSpeech` for the argument."""

    writes = ("languages",)

    def setup(self) -> None:
        """Restore the model.

        Raises:
            InfrastructureError: the model cannot be restored, or has no labels.
        """
        super().setup()
        self._labels = self.labels()
        if not self._labels:
            raise InfrastructureError(f"{self._path}: has no labels, as a model for languages must have")

    def infer(self, clips: Sequence[Clip]) -> Rows:
        """Return the probability of each language for each clip."""
        rows = self.outputs([clip.samples for clip in clips])
        return [{"languages": dict(zip(self._labels, map(float, row), strict=True))} for row in rows]

    def _output(self, found: Any) -> list[Any]:
        return list(found[0].float().softmax(dim=-1).cpu().numpy())


class _NemoVoiceModel(NemoSpeech):
    """The probability of speech in windows or in frames."""

    _classes = VOICE_CLASSES
    writes = ("speech",)

    def infer(self, clips: Sequence[Clip]) -> Rows:
        return [{"speech": row} for row in self.outputs([clip.samples for clip in clips])]

    def setup(self) -> None:
        super().setup()
        labels = [label.lower() for label in self.labels()]
        self._speech = labels.index("speech") if "speech" in labels else -1

    def _output(self, found: Any) -> list[Any]:
        return list(found.float().softmax(dim=-1)[..., self._speech].cpu().numpy())


_WINDOW_S, _SHIFT_S = 0.63, 0.08
_WINDOWS = 128
_CALL_S, _CONTEXT_S = 20, 1


class NemoVoiceDetector:
    """MarbleNet as an engine of `voice_activity`: models for frames, and for windows of 0.63 s.

    Args:
        model: the path of a `.nemo` file.
        device: `cpu` or `cuda`.
    """

    rate_hz = 16_000
    frame_s = _SHIFT_S
    threshold = 0.5

    def __init__(self, model: str, device: str = "cpu") -> None:
        if device not in ("cpu", "cuda"):
            raise ValueError(f"device={device!r} must be cpu or cuda")
        self._model = _NemoVoiceModel(model)
        self._model.resources = ModelResources(device=device, threads=1)

    def check(self) -> None:
        """Check that NeMo is installed, and that the file is a model for voice activity."""
        self._model.check()

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the sha256 of the model."""
        return self._model.fingerprint()

    def setup(self) -> None:
        """Restore the model; a model for frames is tried out, to know how long they are."""
        import numpy as np

        self._model.setup()
        self.rate_hz = self._model.rate_hz
        if self._model.kind == "frames":
            # The encoder makes one frame of 1, 2, 4 or 8 feature frames.
            features = self.rate_hz // self._model.hop
            frames = len(self._probabilities([np.zeros(self.rate_hz, np.float32)])[0])
            self.frame_s = self._model.hop * max(1, round(features / frames)) / self.rate_hz

    def probabilities(self, blocks: Iterable[Samples]) -> Iterator[Probabilities]:
        """Yield the probabilities of 20 s at a time, or of 128 windows."""
        frames = self._model.kind == "frames"
        yield from self._by_frames(blocks) if frames else self._by_windows(blocks)

    def _probabilities(self, windows: Sequence[Samples]) -> list[Probabilities]:
        rows: Any = self._model.infer([Clip(window, self.rate_hz) for window in windows])
        return [row["speech"] for row in rows]

    def _by_frames(self, blocks: Iterable[Samples]) -> Iterator[Probabilities]:
        import numpy as np

        frame = round(self.frame_s * self.rate_hz)
        size = _CALL_S * self.rate_hz // frame * frame
        context = _CONTEXT_S * self.rate_hz // frame * frame
        for samples, first, end in _calls(blocks, size, context):
            found = self._probabilities([samples])[0]
            last = -(-end // frame)
            yield np.pad(found, (0, max(0, last - len(found))), mode="edge")[first // frame : last]

    def _by_windows(self, blocks: Iterable[Samples]) -> Iterator[Probabilities]:
        import numpy as np

        window, shift = round(_WINDOW_S * self.rate_hz), round(_SHIFT_S * self.rate_hz)
        # The window of a frame has the frame in its middle, and zeros where the recording has ended.
        context = -(-(window - shift) // 2 // shift) * shift
        for samples, first, end in _calls(blocks, _WINDOWS * shift, context):
            begins = range(first, end, shift)
            lead = (window - shift) // 2
            padded = np.pad(samples, (lead, window))
            found = self._probabilities([padded[begin : begin + window] for begin in begins])
            yield np.array(found, np.float32)


def _calls(blocks: Iterable[Samples], size: int, context: int) -> Iterator[tuple[Samples, int, int]]:
    """Yield the samples of each call, whatever the borders of the blocks, and where its own begin and end in them."""
    import numpy as np

    held, before = np.zeros(0, np.float32), 0
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) > before + size + context:
            yield held[: before + size + context], before, before + size
            held, before = held[before + size - context :], context
    if len(held) > before:
        yield held, before, len(held)
