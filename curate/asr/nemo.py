"""Runs NeMo's CTC, RNNT, TDT and hybrid models directly, without `model.transcribe()`.

`transcribe()` leaves modules in training mode, lets damaged files vanish from its results and rebuilds a data loader
for every call. Here the model is restored once, frozen and put into evaluation mode for good, and each batch goes
straight through preprocessor, encoder and decoder. On the CPU in fp32 the text is the one that `transcribe()` gives for
the same file, whatever else is in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy
from gc import collect
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

from loguru import logger

from curate.asr.checkpoint import choose_decoder, fetch, local_path, read_checkpoint, restore
from curate.asr.decoding import STRATEGIES, Decoding, DecodingOptions
from curate.asr.memory import DeviceMemory, Peak
from curate.asr.recogniser import Transcript, Waveform
from curate.errors import InfrastructureError, PlanError, RecordError

_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_DECODERS = ("ctc", "rnnt")
_LEAST_FRAMES = 2

_GRAPH_SHARE = 0.1
"""Of the card's memory, what the buffers of captured graphs may take."""

_GRAPH_ITEMS, _GRAPH_FRAMES = 16, 64
"""Buffers of captured graphs are rounded up to these, so that a slightly larger batch fits as well."""


class NemoRecogniser:
    """A NeMo model as a recogniser.

    Clips too short for two feature frames (20 ms for most models) get an empty transcript without being shown to the
    model: NeMo normalises features over time, which has no meaning for a single frame; there it hallucinates on the
    CPU, and on CUDA it refuses the whole batch.

    Args:
        model_name: the path of a `.nemo` file, or the name of a pretrained model.
        device: `cpu`, `cuda` or `cuda:<index>`.
        dtype: `fp32`; `bf16` or `fp16` run encoder and decoder wholly in half precision, features are still computed
            in fp32. Both work on the CPU, where bf16 gains no time and fp16 costs several times as much. `auto` is
            bf16 on cards that have it, and fp32 elsewhere.
        decoder: `ctc` or `rnnt`, for hybrid models; None takes the model's default, `rnnt` where it has one.
        timestamps: whether transcripts tell when each word was said.
        confidence: whether transcripts, and words if there are any, tell how sure the model is: the normalised Tsallis
            entropy that NeMo recommends, averaged over tokens. Not a probability; compare it within one model.
        threads: how many CPU threads torch may use, for the whole process; None leaves that alone.
        decoding: `greedy_batch` or `greedy`, see `DecodingOptions`.
        label_looping: see `DecodingOptions`.
        cuda_graphs: see `DecodingOptions`.

    Raises:
        PlanError: an option has a value that no model can take.
    """

    thread_safe = False

    def __init__(
        self,
        model_name: str | Path,
        *,
        device: str = "cpu",
        dtype: str = "fp32",
        decoder: str | None = None,
        timestamps: bool = False,
        confidence: bool = False,
        threads: int | None = None,
        decoding: str = "greedy_batch",
        label_looping: bool = True,
        cuda_graphs: bool = True,
    ) -> None:
        _one_of("dtype", dtype, ("auto", *_DTYPES))
        _one_of("decoder", decoder, (None, *_DECODERS))
        _one_of("decoding", decoding, STRATEGIES)
        if device != "cpu" and device.partition(":")[0] != "cuda":
            raise PlanError(f"device must be cpu, cuda or cuda:<index>, not {device!r}")
        if threads is not None and threads < 1:
            raise PlanError(f"threads must be at least 1, not {threads}")
        self.rate_hz = 16_000
        self.model_name = model_name
        self.device = device
        self.dtype = dtype
        self.decoder = decoder
        self.threads = threads
        self.options = DecodingOptions(
            strategy=decoding,
            label_looping=label_looping,
            cuda_graphs=cuda_graphs,
            timestamps=timestamps,
            confidence=confidence,
        )
        self._loaded: _Loaded | None = None

    def setup(self) -> None:
        """Restore the model and try it out; a second call does nothing.

        Raises:
            InfrastructureError: the model, NeMo or the device is missing, or they do not go together.
        """
        if self._loaded is not None:
            return
        path = local_path(self.model_name)
        try:
            checkpoint = read_checkpoint(path if path is not None else fetch(str(self.model_name)))
            decoder = choose_decoder(checkpoint, self.decoder)
        except PlanError as error:
            raise InfrastructureError(str(error)) from error
        model = restore(checkpoint)
        torch: Any = import_module("torch")
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        device = _device(torch, self.device)
        dtype = _suitable(torch, device) if self.dtype == "auto" else self.dtype
        try:
            self._loaded = _Loaded(torch, model, decoder, device, dtype, self.options)
            self.rate_hz = self._loaded.rate_hz
            self.warm_up()  # a model that fails on one second of noise would fail on every record
        except Exception as error:
            self.close()
            reason = str(error) if isinstance(error, InfrastructureError) else f"{type(error).__name__}: {error}"
            raise InfrastructureError(
                f"{checkpoint.path}: the model does not run in {dtype} on {self.device}: {reason}"
            ) from error
        logger.debug("{}: {} with its {} decoder, {}", checkpoint.path, checkpoint.target, decoder, dtype)

    def warm_up(self, items: int = 1, longest_s: float = 1.0) -> None:
        """Run one batch of faint noise, to see that the model runs, or to make room for the largest batch to come."""
        import numpy as np

        samples = int(longest_s * self.rate_hz)
        noise = np.random.default_rng(0).normal(0, 1e-3, samples).astype(np.float32)
        self.transcribe([noise] * items)

    def transcribe(self, waveforms: Sequence[Waveform]) -> list[Transcript]:
        """Recognise `waveforms` as one batch; see `Recogniser.transcribe`, and `begin`."""
        return self.begin(waveforms)()

    def begin(self, waveforms: Sequence[Waveform]) -> Callable[[], list[Transcript]]:
        """Run the model on `waveforms` as one batch, and return what spells out the tokens that it found.

        Raises:
            RecordError: a waveform is empty or holds samples that are not finite.
            RuntimeError: as torch raises it, out of memory among others (`curate.asr.is_oom`).
        """
        if self._loaded is None:
            raise InfrastructureError(f"{self.model_name}: transcribe() was called before setup()")
        signals = [_checked(waveform, index, len(waveforms)) for index, waveform in enumerate(waveforms)]
        silence, least = self._loaded.silence, self._loaded.least_samples
        audible = [index for index, signal in enumerate(signals) if len(signal) >= least]
        count = len(signals)
        self._loaded.peak = None  # of a batch that the model does not see, or that fails, there is none
        spell = self._loaded.run([signals[index] for index in audible]) if audible else list[Transcript]

        def spelt() -> list[Transcript]:
            transcripts = [silence] * count
            for index, transcript in zip(audible, spell(), strict=True):
                transcripts[index] = transcript
            return transcripts

        return spelt

    def prepare(self, items: int, longest_s: float) -> bool:
        """Make room for batches of up to so many items and seconds: capture CUDA graphs once, for the largest.

        NeMo captures anew for each batch that has more items, or more frames, than the one before; of batches by
        length, that is nearly every one. Does nothing on the CPU, without graphs, and where there is room already.

        Returns:
            Whether memory was taken.
        """
        return self._loaded is not None and self._loaded.prepare(items, longest_s)

    def measure(self, items: int, longest_s: float) -> int:
        """Run one batch of faint noise and return the bytes of GPU memory that it needed; 0 on the CPU."""
        self.warm_up(items, longest_s)
        peak = self.peak()
        return peak.own_bytes if peak is not None else 0

    def memory(self) -> DeviceMemory | None:
        """Return the card's memory, None on the CPU."""
        return self._loaded.memory() if self._loaded is not None else None

    def peak(self) -> Peak | None:
        """Return the peak of the last batch alone; None on the CPU, and where the model has not seen it."""
        return self._loaded.peak if self._loaded is not None else None

    def free_memory(self) -> None:
        """Give back the GPU memory that torch has cached."""
        if self._loaded is not None:
            self._loaded.free_memory()

    def used(self) -> dict[str, Any]:
        """Return what is in use, for reports: the device, the type of numbers, the decoder and how it decodes."""
        return self._loaded.used if self._loaded is not None else {}

    def gpu_uuid(self) -> str | None:
        """Return the card's UUID, None on the CPU."""
        return self._loaded.gpu_uuid() if self._loaded is not None else None

    def close(self) -> None:
        """Let go of the model, and of the GPU memory that torch keeps for it."""
        if self._loaded is not None:
            self._loaded.release()
            self._loaded = None


class _Loaded:
    """A restored model, ready to run on its device. NeMo's models are not thread-safe, so calls queue up at a lock."""

    def __init__(self, torch: Any, model: Any, decoder: str, device: Any, dtype: str, options: DecodingOptions) -> None:
        self._torch = torch
        self._device = device
        self._dtype = getattr(torch, _DTYPES[dtype])
        self._on_gpu = device.type == "cuda"
        self._lock = Lock()
        self.peak: Peak | None = None
        self.rate_hz = int(model.preprocessor._sample_rate)
        self.silence = Transcript("", words=() if options.timestamps else None)
        self._decode = Decoding(model, decoder, options, on_gpu=self._on_gpu)
        loops_over_labels = decoder == "rnnt" and options.strategy == "greedy_batch" and options.label_looping
        self._has_graphs = self._on_gpu and loops_over_labels and options.cuda_graphs
        self._encoded: tuple[int, float] = (0, 0.0)  # the encoder's width, and its frames per second of audio
        self._captured: tuple[int, int] = (0, 0)
        self.used = {
            "device": str(device),
            "dtype": dtype,
            "decoder": decoder,
            "decoding": options.strategy,
            "label_looping": loops_over_labels,
            "cuda_graphs": self._has_graphs,
            "pinned_memory": self._on_gpu,
        }
        # The preprocessor stays in fp32: rounding its window and filters to half precision costs accuracy.
        for name, part in model.named_children():
            part.to(device=device, dtype=torch.float32 if name == "preprocessor" else self._dtype)
        self._settle(model)
        self._preprocessor = model.preprocessor
        self._encoder = model.encoder
        self._model = model
        self.least_samples = self._least_samples()

    @staticmethod
    def _settle(model: Any) -> None:
        """Make the model a pure function for good: frozen, evaluation mode, no dither, no padding of its own."""
        featurizer = getattr(model.preprocessor, "featurizer", None)
        for knob in ("dither", "pad_to"):
            if hasattr(featurizer, knob):
                setattr(featurizer, knob, 0)
        # NeMo's conformer layers share one activation object, a default argument, with every other model of this
        # process; a `transcribe()` of theirs would switch it to training mode under our hands.
        for part in list(model.encoder.modules()):
            for name, child in list(part.named_children()):
                if not any(True for _ in child.children()) and not child.state_dict():
                    setattr(part, name, copy(child))
        model.freeze()
        model.eval()
        training = [name for name, module in model.named_modules() if module.training]
        if training:
            raise InfrastructureError(f"these parts of the model stay in training mode: {', '.join(training)}")

    def _least_samples(self) -> int:
        """Return the length of the shortest clip that has `_LEAST_FRAMES` feature frames."""
        featurizer = self._preprocessor.featurizer
        hop = int(featurizer.hop_length)
        if not hasattr(featurizer, "get_seq_len"):
            return _LEAST_FRAMES * hop
        samples = hop
        while int(featurizer.get_seq_len(self._torch.tensor(samples))) < _LEAST_FRAMES:
            samples += hop
        return samples

    def run(self, signals: Sequence[Waveform]) -> Callable[[], list[Transcript]]:
        with self._lock, self._torch.inference_mode():
            if not self._on_gpu:
                return self._through(signals)
            cuda, device = self._torch.cuda, self._device
            cuda.reset_peak_memory_stats(device)
            before = int(cuda.memory_allocated(device))
            spell = self._through(signals)
            most = int(cuda.max_memory_allocated(device))
            self.peak = Peak(
                own_bytes=most - before,
                share=most / int(cuda.get_device_properties(device).total_memory),
                allocated_bytes=before,
                reserved_bytes=int(cuda.max_memory_reserved(device)),
            )
            return spell

    def _through(self, signals: Sequence[Waveform]) -> Callable[[], list[Transcript]]:
        torch = self._torch
        lengths = [len(signal) for signal in signals]
        # what is copied from pinned memory is copied while the CPU goes on
        padded = torch.zeros(len(signals), max(lengths), pin_memory=self._on_gpu)
        for row, signal in zip(padded, signals, strict=True):
            row[: len(signal)] = torch.from_numpy(signal)
        samples = torch.tensor(lengths, pin_memory=self._on_gpu)
        features, frames = self._preprocessor(
            input_signal=padded.to(self._device, non_blocking=True),
            length=samples.to(self._device, non_blocking=True),
        )
        encoded, frames = self._encoder(audio_signal=features.to(self._dtype), length=frames)[:2]
        self._encoded = (int(encoded.shape[1]), max(self._encoded[1], encoded.shape[2] * self.rate_hz / max(lengths)))
        return self._decode(encoded, frames, [length / self.rate_hz for length in lengths])

    def prepare(self, items: int, longest_s: float) -> bool:
        width, frames_per_s = self._encoded
        frames = math.ceil(longest_s * frames_per_s)
        if not self._has_graphs or not width or (items <= self._captured[0] and frames <= self._captured[1]):
            return False
        torch = self._torch
        items = max(self._captured[0], _GRAPH_ITEMS * math.ceil(items / _GRAPH_ITEMS))
        frames = max(self._captured[1], _GRAPH_FRAMES * math.ceil(frames / _GRAPH_FRAMES))
        memory = self.memory()
        needed = 2 * items * frames * width * self._dtype.itemsize  # the encoder's output, and its projection
        if memory is None or needed > _GRAPH_SHARE * memory.total_bytes:
            logger.info("{} items of {:g} s are too much for one capture of CUDA graphs", items, longest_s)
            return False
        with self._lock, torch.inference_mode():
            encoded = torch.zeros(items, width, frames, dtype=self._dtype, device=self._device)
            self._decode(encoded, torch.ones(items, dtype=torch.int64, device=self._device), [longest_s] * items)
        self._captured = (items, frames)
        return True

    def memory(self) -> DeviceMemory | None:
        if not self._on_gpu:
            return None
        cuda, device = self._torch.cuda, self._device
        free, total = cuda.mem_get_info(device)
        in_use = cuda.memory_allocated(device)
        cached = cuda.memory_reserved(device) - in_use
        return DeviceMemory(int(free + cached), int(in_use), int(total))

    def gpu_uuid(self) -> str | None:
        if not self._on_gpu:
            return None
        uuid = getattr(self._torch.cuda.get_device_properties(self._device), "uuid", None)  # from torch 2.4 on
        return None if uuid is None else f"GPU-{str(uuid).removeprefix('GPU-')}"

    def free_memory(self) -> None:
        if self._on_gpu:
            collect()
            self._torch.cuda.empty_cache()

    def release(self) -> None:
        del self._model, self._encoder, self._preprocessor, self._decode
        collect()  # NeMo's models hold references to themselves
        if self._on_gpu:
            self._torch.cuda.empty_cache()


def _checked(waveform: Waveform, index: int, count: int) -> Waveform:
    import numpy as np

    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise TypeError(
            f"waveform {index} of {count} has shape {waveform.shape} and type {waveform.dtype}: "
            "a recogniser takes mono float32 of shape (samples,), full scale at ±1"
        )
    if len(waveform) == 0:
        raise RecordError("zero_samples", f"waveform {index} of {count} has no samples")
    if not np.isfinite(waveform).all():
        raise RecordError("non_finite", f"waveform {index} of {count} holds NaN or infinite samples")
    return np.require(waveform, dtype=np.float32, requirements=["C", "W"])


def _device(torch: Any, device: str) -> Any:
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise InfrastructureError(f"device {device!r} is none that torch knows: {error}") from error
    if wanted.type == "cuda":
        if not torch.cuda.is_available():
            raise InfrastructureError(
                f"device {device!r} is asked for, but torch {torch.__version__} sees no GPU here; use device='cpu', or "
                "install a CUDA build of torch and check CUDA_VISIBLE_DEVICES"
            )
        if wanted.index is not None and wanted.index >= torch.cuda.device_count():
            raise InfrastructureError(f"device {device!r} is asked for, but there are {torch.cuda.device_count()} GPUs")
    return wanted


def _suitable(torch: Any, device: Any) -> str:
    """Return the type of numbers that the device is fastest with, without loss of range."""
    if device.type != "cuda":
        return "fp32"
    with torch.cuda.device(device):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def _one_of(option: str, value: str | None, allowed: Sequence[str | None]) -> None:
    if value not in allowed:
        raise PlanError(f"{option} must be one of {', '.join(map(str, allowed))}, not {value!r}")
