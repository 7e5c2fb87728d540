"""Runs NeMo's CTC, RNNT, TDT and hybrid models directly, without `model.transcribe()`.

`transcribe()` leaves modules in training mode, lets damaged files vanish from its results and rebuilds a data loader
for every call. Here the model is restored once, frozen and put into evaluation mode for good, and each batch goes
straight through preprocessor, encoder and decoder. On the CPU in fp32 the text is the one that `transcribe()` gives for
the same file, whatever else is in the batch.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from gc import collect
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, overload

from loguru import logger

from curate.asr.captured_encoder import CapturedEncoder
from curate.asr.checkpoint import (
    check_model,
    choose_decoder,
    fetch,
    local_path,
    model_fingerprint,
    read_checkpoint,
    restore,
)
from curate.asr.ctc_labels import read_ctc_labels
from curate.asr.decoding import STRATEGIES, Decoding, DecodingOptions
from curate.asr.local_attention import attend_locally, check_local_attention
from curate.asr.recogniser import Transcript, transcript_columns
from curate.errors import InfrastructureError, PlanError, RecordError
from curate.gpu_errors import is_broken_gpu
from curate.models import AudioModel, Clip, CtcLabels, DeviceMemory, MemoryPeak, ModelCapabilities, Rows
from curate.models.resources import DTYPES, suitable_dtype
from curate.models.side_stream import PreparedBatch, SideStream
from curate.models.torch_device import TorchMemoryMeter, gpu_uuid, keep_in_broken_context, limit_gpu_memory

if TYPE_CHECKING:
    from curate.models.clip import Waveform
    from curate.models.ctc import LogProbs
else:
    LogProbs = Waveform = Any

_DECODERS = ("ctc", "rnnt")
_ATTENTION = ("auto", "sdpa", "nemo")
_LEAST_FRAMES = 2

_SILENCE = 2.0**-48
"""Mean square at or below which a waveform has no energy: half a step of 24-bit audio, -144 dB of full scale."""

_GRAPH_SHARE = 0.1
"""Share of this process's GPU memory that the buffers of CUDA graphs may take, the decoder's and the encoder's each."""

_GPU_LOCK = Lock()
"""Held while a model of this process works on a GPU: torch forbids two captures of CUDA graphs at the same time."""


class NemoRecogniser(AudioModel):
    """A NeMo model as a recogniser.

    Clips too short for two feature frames (20 ms for most models) get an empty transcript without being shown to the
    model: NeMo normalises features over time, which has no meaning for a single frame; there it hallucinates on the
    CPU, and on CUDA it refuses the whole batch. Clips of digital silence get an empty transcript for the same reason:
    normalised, their features are rounding errors, in which a transducer on a GPU finds words.

    Args:
        model_name: the path of a `.nemo` file, or the name of a pretrained model.
        device: `cpu`, `cuda` or `cuda:<index>`; None: as `resources` say, which a stage sets.
        dtype: `fp32`; `bf16` or `fp16` run encoder and decoder wholly in half precision, features are still computed
            in fp32. Both work on the CPU: bf16 takes half to two thirds of the time where the processor has bf16
            instructions (`avx512_bf16`), and more than three times as long where it has AVX2 alone; fp16 costs several
            times as much. `auto` is bf16 on GPUs that have it, and fp32 elsewhere; None: as `resources` say. With
            `confidence`, whatever follows the encoder stays in fp32: in bf16 a word's confidence is off by up to 0.18.
        decoder: `ctc` or `rnnt`, for hybrid models; None takes the model's default, `rnnt` where it has one.
        timestamps: whether transcripts carry the times of words.
        confidence: whether transcripts, and words if there are any, carry confidence: the normalised Tsallis
            entropy that NeMo recommends, averaged over tokens. Not a probability; compare it within one model.
        threads: how many CPU threads torch may use, for the whole process; None: as `resources` say, 1 with a GPU, and
            left alone without.
        decoding: `greedy_batch` or `greedy`, see `DecodingOptions`.
        label_looping: see `DecodingOptions`.
        cuda_graphs: see `DecodingOptions`.
        encoder_graphs: whether the encoder runs small batches in CUDA graphs; without effect on the CPU.
        side_stream: whether a batch is copied to the GPU, and its features are computed, while the model works on the
            one before; without effect on the CPU.
        attention: `sdpa` computes the encoder's attention with torch's fused kernels, `nemo` with NeMo's own; equal to
            rounding. `auto` is `sdpa` on a GPU, where it is faster for large batches, and `nemo` on the CPU.
        local_attention: the frames of the encoder that each frame attends to on either side, such as 128, for long
            audio: the memory then grows with the length instead of its square. None: all frames. A model that was
            trained with all may be a little worse with few. Needs a conformer with relative positions; `attention` has
            no effect then.
        tf32: whether fp32 matrix products and convolutions on a GPU may round their inputs to TF32, for the whole
            process. Faster, with about three significant digits.
        gpu_share: the share of the GPU's memory that this process may take; None: as `resources` say.
        gpu_memory_gb: the GPU memory that this process may take, in GB; None: `gpu_share` of it.

    Raises:
        PlanError: an option has a value that no model can take.
    """

    def __init__(
        self,
        model_name: str | Path,
        *,
        device: str | None = None,
        dtype: str | None = None,
        decoder: str | None = None,
        timestamps: bool = False,
        confidence: bool = False,
        threads: int | None = None,
        decoding: str = "greedy_batch",
        label_looping: bool = True,
        cuda_graphs: bool = True,
        encoder_graphs: bool = False,
        side_stream: bool = False,
        attention: str = "auto",
        local_attention: int | None = None,
        tf32: bool = False,
        gpu_share: float | None = None,
        gpu_memory_gb: float | None = None,
    ) -> None:
        _one_of("dtype", dtype or "auto", ("auto", *DTYPES))
        _one_of("decoder", decoder, (None, *_DECODERS))
        _one_of("decoding", decoding, STRATEGIES)
        _one_of("attention", attention, _ATTENTION)
        if local_attention is not None and local_attention < 1:
            raise PlanError(f"local_attention must be at least 1 frame, or null for all, not {local_attention}")
        if gpu_share is not None and not 0 < gpu_share <= 1:
            raise PlanError(f"gpu_share must be above 0 and at most 1, not {gpu_share:g}")
        if device not in (None, "cpu") and device.partition(":")[0] != "cuda":
            raise PlanError(f"device must be cpu, cuda or cuda:<index>, not {device!r}")
        if threads is not None and threads < 1:
            raise PlanError(f"threads must be at least 1, not {threads}")
        self.writes = transcript_columns(timestamps=timestamps, confidence=confidence)
        self.model_name = model_name
        self.device = device
        self.dtype = dtype
        self.decoder = decoder
        self.threads = threads
        self.encoder_graphs = encoder_graphs
        self.side_stream = side_stream
        self.attention = attention
        self.local_attention = local_attention
        self.tf32 = tf32
        self.gpu_share = gpu_share
        self.gpu_memory_gb = gpu_memory_gb
        self.options = DecodingOptions(
            strategy=decoding,
            label_looping=label_looping,
            cuda_graphs=cuda_graphs,
            timestamps=timestamps,
            confidence=confidence,
        )
        self._loaded: _Loaded | None = None

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the sha256 of the model's file."""
        return model_fingerprint(self.model_name)

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
            check_local_attention(str(checkpoint.path), self.local_attention, checkpoint.attention)
        except PlanError as error:
            raise InfrastructureError(str(error)) from error
        model = restore(checkpoint)
        torch: Any = import_module("torch")
        name = self.device or self.resources.device
        device = chosen_device(torch, name)
        # With a GPU, nothing large is computed on CPUs, and idle teams of threads would spin next to the launching one.
        threads = self.threads or self.resources.threads or (1 if device.type == "cuda" else None)
        if threads is not None:
            torch.set_num_threads(threads)
        dtype = self.dtype or self.resources.dtype
        dtype = suitable_dtype(torch, device) if dtype == "auto" else dtype
        max_bytes: float | None = None
        try:
            if device.type == "cuda":
                _allow_tf32(torch, self.tf32)
                share = self.resources.gpu_share if self.gpu_share is None else self.gpu_share
                memory_gb = self.gpu_memory_gb or self.resources.gpu_memory_gb
                max_bytes = limit_gpu_memory(torch, device, share, memory_gb)
            uses_sdpa = self.attention == "sdpa" or (self.attention == "auto" and device.type == "cuda")
            uses_sdpa = _attend_by_sdpa(model.encoder, uses_sdpa)
            if self.local_attention is not None:
                attend_locally(model, self.local_attention)
            self._loaded = _Loaded(torch, model, decoder, device, dtype, self.options, max_bytes)
            is_local = self.local_attention is not None
            self._loaded.settings["attention"] = "local" if is_local else "sdpa" if uses_sdpa else "nemo"
            self._loaded.settings["tf32"] = self.tf32 and device.type == "cuda"
            if device.type == "cuda":
                self._loaded.speed_up(encoder_graphs=self.encoder_graphs, side_stream=self.side_stream)
            self.rate_hz = self._loaded.rate_hz
            self.warm_up()  # a model that fails on one second of noise would fail on every record
        except Exception as error:
            self.close()
            reason = str(error) if isinstance(error, InfrastructureError) else f"{type(error).__name__}: {error}"
            raise InfrastructureError(
                f"{checkpoint.path}: the model does not run in {dtype} on {name}: {reason}"
            ) from error
        logger.debug("{}: {} with its {} decoder, {}", checkpoint.path, checkpoint.target, decoder, dtype)

    def warm_up(self, items: int = 1, longest_s: float = 1.0) -> None:
        """Run one batch of faint noise, to check that the model runs."""
        import numpy as np

        samples = int(longest_s * self.rate_hz)
        noise = np.random.default_rng(0).normal(0, 1e-3, samples).astype(np.float32)
        self.transcribe([noise] * items)

    def infer(self, clips: Sequence[Clip]) -> Callable[[], Rows]:
        """Run the model on `clips` as one batch, and return the function that spells out the tokens; see `begin`."""
        spell = self.begin(clips.batch if isinstance(clips, _StagedClips) else [clip.samples for clip in clips])
        timestamps, confidence = self.options.timestamps, self.options.confidence
        return lambda: [one.row(timestamps=timestamps, confidence=confidence) for one in spell()]

    def capabilities(self) -> ModelCapabilities:
        """Return the capabilities on the device: batches are staged, and on a GPU graphs are captured."""
        assert self._loaded is not None, "asked after setup"
        if not self._loaded.on_gpu:
            return ModelCapabilities(stage=self._stage_clips, runtime_info=self.runtime_info)
        return ModelCapabilities(
            stage=self._stage_clips,
            reserve=self.prepare,
            meter=self,
            gpu_uuid=self.gpu_uuid(),
            runtime_info=self.runtime_info,
        )

    def transcribe(self, waveforms: Sequence[Waveform]) -> list[Transcript]:
        """Recognise `waveforms` as one batch, outside of a pipeline; the arguments and errors are those of `begin`."""
        return self.begin(waveforms)()

    def begin(self, waveforms: Sequence[Waveform]) -> Callable[[], list[Transcript]]:
        """Run the model on `waveforms` as one batch, and return the function that spells out the tokens.

        Args:
            waveforms: one array of shape (samples,) per utterance: float32, mono, at `rate_hz`, full scale at ±1.

        Raises:
            RecordError: a waveform is empty or holds samples that are not finite.
            InfrastructureError: the model is not loaded: `setup` comes first.
            RuntimeError: as torch raises it, out of memory among others (`curate.gpu_errors.is_oom`).
        """
        if self._loaded is None:
            raise InfrastructureError(f"{self.model_name}: transcribe() was called before setup()")
        staged = waveforms if isinstance(waveforms, StagedBatch) else self._loaded.check(waveforms)
        silence, audible, count = self._loaded.silence, staged.audible, len(staged)
        self._loaded.peak = None  # of a batch that the model does not see, or that fails, there is none
        spell = list[Transcript]
        if audible:
            features, staged.features = staged.features, None  # used once, and memory of the GPU
            spell = self._loaded.run([staged[index] for index in audible], staged.padded, features)
            del features

        def spelt() -> list[Transcript]:
            transcripts = [silence] * count
            for index, transcript in zip(audible, spell(), strict=True):
                transcripts[index] = transcript
            return transcripts

        return spelt

    def check_ctc(self) -> None:
        """Check, without loading the model, that it has a CTC decoder; see `CtcModel`."""
        check_model(self.model_name, "ctc")

    def ctc_labels(self) -> CtcLabels:
        """Return the labels of the CTC decoder; see `CtcModel`."""
        return self._set_up().ctc_labels()

    def log_probs(self, clips: Sequence[Clip]) -> Sequence[LogProbs]:
        """Return the log-probabilities of the CTC decoder for each clip; see `CtcModel`.

        A clip that `begin` would not show to the model has no frames.
        """
        loaded = self._set_up()
        staged = loaded.check([clip.samples for clip in clips])
        found = loaded.log_probs([staged[index] for index in staged.audible]) if staged.audible else []
        by_index = dict(zip(staged.audible, found, strict=True))
        nothing = loaded.no_log_probs()
        return [by_index.get(index, nothing) for index in range(len(staged))]

    def _set_up(self) -> _Loaded:
        if self._loaded is None:
            raise InfrastructureError(f"{self.model_name}: log_probs() was called before setup()")
        return self._loaded

    def stage(self, waveforms: Sequence[Waveform]) -> Sequence[Waveform]:
        """Check and pad a batch, on a GPU's machine in memory from which the GPU copies asynchronously.

        Where the model runs on one CPU thread, its features are computed too: a tenth of the work, on another core.

        Raises:
            RecordError: a waveform is empty or holds samples that are not finite.
            RuntimeError: as torch raises it.
        """
        return waveforms if self._loaded is None else self._loaded.stage(waveforms)

    def _stage_clips(self, clips: Sequence[Clip]) -> Sequence[Clip]:
        return _StagedClips(clips, self.stage([clip.samples for clip in clips]))

    def prepare(self, items: int, longest_s: float) -> bool:
        """Capture the CUDA graph for batches of `items` items of up to `longest_s` seconds.

        Without it they are captured when the first such batch is decoded. Does nothing on the CPU, without graphs, and
        where that has been done.

        Returns:
            Whether memory was taken.

        Raises:
            RuntimeError: as torch raises it, out of memory among others; nothing is captured then.
        """
        return self._loaded is not None and self._loaded.prepare(items, longest_s)

    def memory(self) -> DeviceMemory | None:
        """Return the GPU's memory; None on the CPU."""
        return self._loaded.memory() if self._loaded is not None else None

    def start_batch(self) -> None:
        """Do nothing: the peak of each batch is measured under the lock that it runs under."""

    def peak(self) -> MemoryPeak | None:
        """Return the peak of the last batch alone; None on the CPU, and where the model has not seen it."""
        return self._loaded.peak if self._loaded is not None else None

    def free_memory(self) -> None:
        """Release the GPU memory that torch has cached.

        Raises:
            RuntimeError: the CUDA context is broken, so that what looked like a lack of memory was none.
        """
        if self._loaded is not None:
            self._loaded.free_memory()

    def runtime_info(self) -> dict[str, Any]:
        """Return the device, the number format, the decoder and its strategy, for reports."""
        return self._loaded.runtime_info() if self._loaded is not None else {}

    def gpu_uuid(self) -> str | None:
        """Return the GPU's UUID; None on the CPU."""
        return self._loaded.gpu_uuid() if self._loaded is not None else None

    def close(self) -> None:
        """Release the model, and the GPU memory that torch keeps for it."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.release()


class StagedBatch(Sequence[Waveform]):
    """A batch that has been checked, and perhaps padded.

    Args:
        signals: float32, contiguous and finite.
        audible: the numbers of those that the model is shown: long enough, and not silent.
    """

    def __init__(self, signals: list[Waveform], audible: list[int]) -> None:
        self._signals = signals
        self.audible = audible
        self.padded: tuple[Any, Any] | None = None
        """The audible ones as one tensor, and their lengths."""
        self.features: tuple[Any, Any] | PreparedBatch | None = None
        """Their features, and the number of frames of each; None: the model computes them."""

    def __len__(self) -> int:
        return len(self._signals)

    @overload
    def __getitem__(self, index: int) -> Waveform: ...
    @overload
    def __getitem__(self, index: slice) -> list[Waveform]: ...
    def __getitem__(self, index: int | slice) -> Waveform | list[Waveform]:
        return self._signals[index]


class _StagedClips(Sequence[Clip]):
    """Clips, and the batch of their waveforms that was staged."""

    def __init__(self, clips: Sequence[Clip], batch: Sequence[Waveform]) -> None:
        self._clips = clips
        self.batch = batch

    def __len__(self) -> int:
        return len(self._clips)

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Clip]: ...
    def __getitem__(self, index: int | slice) -> Clip | Sequence[Clip]:
        return self._clips[index]


class _Loaded:
    """A restored model, ready to run on its device. NeMo's models are not thread-safe, so calls queue up at a lock."""

    def __init__(
        self,
        torch: Any,
        model: Any,
        decoder: str,
        device: Any,
        dtype: str,
        options: DecodingOptions,
        max_bytes: float | None = None,
    ) -> None:
        self._torch = torch
        self._device = device
        self._dtype = getattr(torch, DTYPES[dtype])
        self._head_dtype = torch.float32 if options.confidence else self._dtype
        self.on_gpu = device.type == "cuda"
        self._lock = _GPU_LOCK if self.on_gpu else Lock()
        self._features_lock = Lock()  # they may be computed for the next batch while the encoder works on this one
        self.peak: MemoryPeak | None = None
        self.rate_hz = int(model.preprocessor._sample_rate)
        self.silence = Transcript("", words=() if options.timestamps else None)
        graph_bytes = None if max_bytes is None else _GRAPH_SHARE * max_bytes
        self._decode = Decoding(model, decoder, options, on_gpu=self.on_gpu, max_graph_bytes=graph_bytes)
        self._encoded: tuple[int, float] = (0, 0.0)  # the encoder's width, and its frames per second of audio
        self.settings = {
            "device": str(device),
            "dtype": dtype,
            "decoder": decoder,
            "decoding": options.strategy,
            "label_looping": decoder == "rnnt" and options.strategy == "greedy_batch" and options.label_looping,
            "pinned_memory": self.on_gpu,
        }
        # The preprocessor stays in fp32: rounding its window and filters to half precision costs accuracy.
        for name, part in model.named_children():
            kind = {"preprocessor": torch.float32, "encoder": self._dtype}.get(name, self._head_dtype)
            part.to(device=device, dtype=kind)
        settle(model)
        self._preprocessor = model.preprocessor
        self._encoder = model.encoder
        self._model = model
        self._labels: CtcLabels | None = None
        self._side: SideStream | None = None
        self._captured: CapturedEncoder | None = None
        self._graph_bytes = graph_bytes
        self.least_samples = self._least_samples()

    def speed_up(self, *, encoder_graphs: bool, side_stream: bool) -> None:
        """Use what a GPU alone has: CUDA graphs of the encoder, and a stream for the next batch."""
        if side_stream:
            self._side = SideStream(self._torch, self._device)
        if encoder_graphs:
            most = math.inf if self._graph_bytes is None else self._graph_bytes
            self._captured = CapturedEncoder(self._torch, self._encoder, self._device, self._dtype, max_bytes=most)

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

    def check(self, waveforms: Sequence[Waveform]) -> StagedBatch:
        checked = [_checked(waveform, index, len(waveforms)) for index, waveform in enumerate(waveforms)]
        audible = [
            index for index, (signal, energy) in enumerate(checked) if len(signal) >= self.least_samples and energy
        ]
        return StagedBatch([signal for signal, _ in checked], audible)

    def stage(self, waveforms: Sequence[Waveform]) -> Sequence[Waveform]:
        staged = self.check(waveforms)
        if staged.audible:
            signals = [staged[index] for index in staged.audible]
            if self._side is not None:
                staged.features = self._side.prepare(signals, self._features)
                if staged.features is not None:
                    return staged
            staged.padded = self._padded(signals)
            # Two teams of threads would be in each other's way.
            if not self.on_gpu and self._torch.get_num_threads() == 1:
                with self._torch.inference_mode():
                    staged.features = self._features(*staged.padded)
                staged.padded = None
        return staged

    def _features(self, padded: Any, samples: Any) -> tuple[Any, Any]:
        """Return the features of a padded batch, and the number of frames of each."""
        with self._features_lock:
            return self._preprocessor(
                input_signal=padded.to(self._device, non_blocking=True),
                length=samples.to(self._device, non_blocking=True),
            )

    def _padded(self, signals: Sequence[Waveform]) -> tuple[Any, Any]:
        """Return signals as one tensor with zeros behind the shorter ones, and their lengths in samples.

        Both are pinned on a GPU's machine; torch keeps pinned memory and hands it out again once it has been copied.
        """
        torch = self._torch
        lengths = [len(signal) for signal in signals]
        padded = torch.empty(len(signals), max(lengths), pin_memory=self.on_gpu)
        # numpy copies in this thread alone: torch would start a team of threads, which spin after each row.
        for row, signal in zip(padded.numpy(), signals, strict=True):
            row[: len(signal)] = signal
            row[len(signal) :] = 0
        return padded, torch.tensor(lengths, pin_memory=self.on_gpu)

    def run(
        self,
        signals: Sequence[Waveform],
        padded: tuple[Any, Any] | None = None,
        features: tuple[Any, Any] | PreparedBatch | None = None,
    ) -> Callable[[], list[Transcript]]:
        with self._lock, self._torch.inference_mode():
            if not self.on_gpu:
                return self._through(signals, padded, features)
            meter = TorchMemoryMeter(self._torch, self._device)
            meter.start_batch()
            spell = self._through(signals, padded, features)
            self.peak = meter.peak()
            return spell

    def _through(
        self,
        signals: Sequence[Waveform],
        padded: tuple[Any, Any] | None,
        computed: tuple[Any, Any] | PreparedBatch | None,
    ) -> Callable[[], list[Transcript]]:
        lengths = [len(signal) for signal in signals]
        encoded, frames = self._encode(signals, padded, computed)
        self._encoded = (int(encoded.shape[1]), max(self._encoded[1], encoded.shape[2] * self.rate_hz / max(lengths)))
        return self._decode(encoded, frames, [length / self.rate_hz for length in lengths])

    def _encode(
        self,
        signals: Sequence[Waveform],
        padded: tuple[Any, Any] | None = None,
        computed: tuple[Any, Any] | PreparedBatch | None = None,
    ) -> tuple[Any, Any]:
        """Return the encoder's output for a batch, (B, D, T) in the decoders' number format, and the valid frames."""
        if isinstance(computed, PreparedBatch):
            computed = computed.take()
        features, frames = computed or self._features(*(padded or self._padded(signals)))
        if self._captured is not None:
            encoded, frames = self._captured(features, frames)
        else:
            encoded, frames = self._encoder(audio_signal=features.to(self._dtype), length=frames)[:2]
        return encoded.to(self._head_dtype), frames

    def log_probs(self, signals: Sequence[Waveform]) -> list[LogProbs]:
        with self._lock, self._torch.inference_mode():
            meter = TorchMemoryMeter(self._torch, self._device) if self.on_gpu else None
            if meter is not None:
                meter.start_batch()
            encoded, frames = self._encode(signals)
            found = self._decode.ctc_log_probs(encoded).cpu().numpy()
            self.peak = meter.peak() if meter is not None else None
            return [row[: int(count)].copy() for row, count in zip(found, frames, strict=True)]

    def no_log_probs(self) -> LogProbs:
        import numpy as np

        return np.empty((0, len(self.ctc_labels().texts)), np.float32)

    def ctc_labels(self) -> CtcLabels:
        if self._labels is None:
            self._labels = read_ctc_labels(self._model)
        return self._labels

    def prepare(self, items: int, longest_s: float) -> bool:
        width, frames_per_s = self._encoded
        if self._decode.graph_mode is None or not width:
            return False
        torch = self._torch
        with self._lock, torch.inference_mode():
            like = torch.empty((1, width, 1), dtype=self._head_dtype, device=self._device)
            return self._decode.prepare(items, math.ceil(longest_s * frames_per_s), like)

    def runtime_info(self) -> dict[str, Any]:
        mode = self._decode.graph_mode
        info = self.settings | {"cuda_graphs": mode is not None, "cuda_graphs_mode": mode}
        if self._side is not None:
            info |= {"side_stream": True}
        if self._captured is not None:
            info |= {
                "encoder_graphs": self._captured.shapes,
                "encoder_graphs_mb": round(self._captured.size_bytes / 1e6),
            }
        return info

    def memory(self) -> DeviceMemory | None:
        return TorchMemoryMeter(self._torch, self._device).memory() if self.on_gpu else None

    def gpu_uuid(self) -> str | None:
        return gpu_uuid(self._torch, self._device) if self.on_gpu else None

    def free_memory(self) -> None:
        if self.on_gpu:
            TorchMemoryMeter(self._torch, self._device).free_memory()

    def release(self) -> None:
        side, self._side = self._side, None
        captured, self._captured = self._captured, None
        if self.on_gpu:
            try:
                self._torch.cuda.synchronize(self._device)  # an error may have left a replay of a graph under way
            except RuntimeError as error:
                if not is_broken_gpu(error):
                    raise
                keep_in_broken_context(side, captured, self)
                logger.debug("the model stays in memory: the GPU's context is broken: {}", error)
                return
        if captured is not None:
            captured.close()
        del self._model, self._encoder, self._preprocessor, self._decode
        collect()  # NeMo's models hold references to themselves
        if not self.on_gpu:
            return
        if side is not None:
            side.close()
        self._torch.cuda.empty_cache()


def _checked(waveform: Waveform, index: int, count: int) -> tuple[Waveform, bool]:
    """Return a waveform as the model takes it, and whether it has any energy."""
    import numpy as np

    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise TypeError(
            f"waveform {index} of {count} has shape {waveform.shape} and type {waveform.dtype}: "
            "a recogniser takes mono float32 of shape (samples,), full scale at ±1"
        )
    if len(waveform) == 0:
        raise RecordError("zero_samples", f"waveform {index} of {count} has no samples")
    signal: Waveform = np.require(waveform, dtype=np.float32, requirements=["C", "W"])
    # One pass instead of a comparison of each sample: energy that is finite has finite samples only. Not by BLAS, whose
    # threads would take CPUs from the one that launches kernels.
    with np.errstate(over="ignore", invalid="ignore"):
        energy = float(np.einsum("i,i->", signal, signal))
    if not math.isfinite(energy) and not np.isfinite(signal).all():
        raise RecordError("non_finite", f"waveform {index} of {count} holds NaN or infinite samples")
    return signal, energy > _SILENCE * len(signal)


def _allow_tf32(torch: Any, allowed: bool) -> None:
    """Choose for the whole process whether fp32 may be rounded to TF32; torch's defaults differ between libraries."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces another name for this switch, which older releases lack
        torch.backends.cudnn.allow_tf32 = allowed


def _attend_by_sdpa(encoder: Any, wanted: bool) -> bool:
    """Choose between torch's fused attention and NeMo's own; return whether the fused one is in use."""
    # The encoder itself has the switch as well, and NeMo's attention in windows has it and cannot use it.
    attentions = [module for module in encoder.modules() if hasattr(module, "forward_qkv")]
    found = [one for one in attentions if hasattr(one, "use_pytorch_sdpa") and not hasattr(one, "att_context_size")]
    for module in found:
        module.use_pytorch_sdpa = wanted
    return wanted and bool(found)


def settle(model: Any) -> None:
    """Make the model a pure function for good: frozen, evaluation mode, no dither, no padding of its own.

    Raises:
        InfrastructureError: a part of the model stays in training mode.
    """
    featurizer = getattr(model.preprocessor, "featurizer", None)
    for knob in ("dither", "pad_to"):
        if hasattr(featurizer, knob):
            setattr(featurizer, knob, 0)
    # NeMo's conformer layers share one activation object, a default argument, with every other model of this
    # process; a `transcribe()` of another model would switch it to training mode.
    for part in list(model.encoder.modules()):
        for name, child in list(part.named_children()):
            if not any(True for _ in child.children()) and not child.state_dict():
                setattr(part, name, copy(child))
    model.freeze()
    model.eval()
    training = [name for name, module in model.named_modules() if module.training]
    if training:
        raise InfrastructureError(f"these parts of the model stay in training mode: {', '.join(training)}")


def chosen_device(torch: Any, device: str) -> Any:
    """Return a device of torch, or raise `InfrastructureError` where there is none of that name."""
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise InfrastructureError(f"torch has no device {device!r}: {error}") from error
    if wanted.type == "cuda":
        if not torch.cuda.is_available():
            raise InfrastructureError(
                f"device {device!r} is asked for, but torch {torch.__version__} sees no GPU here; use device='cpu', or "
                "install a CUDA build of torch and check CUDA_VISIBLE_DEVICES"
            )
        if wanted.index is not None and wanted.index >= torch.cuda.device_count():
            raise InfrastructureError(f"device {device!r} is asked for, but there are {torch.cuda.device_count()} GPUs")
    return wanted


def _one_of(option: str, value: str | None, allowed: Sequence[str | None]) -> None:
    if value not in allowed:
        raise PlanError(f"{option} must be one of {', '.join(map(str, allowed))}, not {value!r}")
