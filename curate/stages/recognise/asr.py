"""The ASR stages: their settings and the columns that they write. The work of a worker is in `transcription`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

import attrs
from loguru import logger

from curate.asr import NemoRecogniser, Recogniser, Transcript, check_model
from curate.asr.checkpoint import local_path
from curate.batching import BatchController
from curate.errors import InfrastructureError, PlanError
from curate.fingerprint import describe_code
from curate.gpu_errors import is_oom
from curate.monitoring import counted_use, statistics_of
from curate.plugin import resolved_setting
from curate.records import DEFAULT_FILEPATH_KEY, AudioBatch, Record
from curate.resolution import PluginLookup, Resolved
from curate.stage import ProcessingStage
from curate.stages.recognise.micro_batches import DEFAULT_MAX_BATCH_S, DEFAULT_SATURATION_S, MicroBatches
from curate.stages.recognise.transcription import OutOfRange, Transcribed, Transcriber, TranscriptionFailed

_STAGE_SETTINGS = ("min_s", "max_s", "max_batch_s", "batch_size", "assumed_s", "cost", "scale")
"""Options of the batchers that are fields of the stage, or that the stage sets itself."""


@dataclass
class _AsrStage(ProcessingStage):
    """The base class of the ASR stages: batching, prefetching, and writing of transcripts."""

    filepath_key: str | None = field(default=None, kw_only=True)
    pred_text_key: str = field(default="pred_text", kw_only=True)
    timestamps: bool = field(default=False, kw_only=True)
    confidence: bool = field(default=False, kw_only=True)
    batching: str = field(default="static", kw_only=True)
    max_batch_s: float | None = field(default=None, kw_only=True)
    memory_share: float | None = field(default=None, kw_only=True)
    saturation_s: float | None = field(default=DEFAULT_SATURATION_S, kw_only=True)
    min_s: float | None = field(default=None, kw_only=True)
    max_s: float | None = field(default=None, kw_only=True)
    batching_options: Mapping[str, Any] = field(default_factory=dict[str, Any], kw_only=True)

    batch_size = 16
    prefetch_batches = 2
    checkpoint = True
    thread_safe = False
    tuning = frozenset({"batching", "max_batch_s", "memory_share", "saturation_s", "batching_options"})

    def __post_init__(self) -> None:
        self._transcriber: Transcriber | None = None
        has_bounds = self.min_s is not None or self.max_s is not None
        self.cardinality = "filters" if has_bounds else "maps"

    def make_recogniser(self) -> Recogniser:
        """Return the recogniser of one worker, not yet set up."""
        raise NotImplementedError(f"{type(self).__name__} must define make_recogniser()")

    def is_oom(self, error: BaseException) -> bool:
        """Return whether an error of the recogniser means that the stage should try a smaller batch.

        With `static` batches none does: the error is raised, and the engine isolates the record that causes it.
        """
        return self.batching != "static" and is_oom(error)

    def check(self) -> None:
        if self.batching_options.get("drop_remainder"):
            raise PlanError("drop_remainder would make the output depend on the batches; it is for training")
        for name in _STAGE_SETTINGS:
            if name in self.batching_options:
                raise PlanError(f"stage {self.name!r}: {name} is a setting of the stage, not a batching option")
        if self.saturation_s is not None and not self.saturation_s > 0:
            raise PlanError(f"stage {self.name!r}: saturation_s must be above 0, or null, not {self.saturation_s:g}")
        self.make_batches()
        self.make_recogniser()

    def make_batches(self) -> MicroBatches:
        """Return the planner of the micro-batches."""
        strategy = self.batching
        if strategy == "memory" and self.max_batch_s is not None:
            strategy = "length"
        if strategy == "bucket" and self.max_s is None:
            raise PlanError(f"stage {self.name!r}: batching 'bucket' needs max_s, the length of its longest bucket")
        return MicroBatches(
            strategy,
            self._batcher_options(strategy),
            max_batch_s=self.max_batch_s if self.max_batch_s is not None else DEFAULT_MAX_BATCH_S,
            batch_size=self.batch_size,
            memory_share=self.memory_share,
            device_share=self.resources.gpus if 0 < self.resources.gpus < 1 else 1.0,
            device_bytes=self.resources.gpu_memory_gb * 1e9 or None,
            saturation_s=self.saturation_s,
        )

    def _batcher_options(self, strategy: str) -> dict[str, Any]:
        options: dict[str, Any] = {"min_s": self.min_s, "max_s": self.max_s, **self.batching_options}
        if self._on_gpu and strategy in ("length", "memory") and "batch_shuffle_window" not in options:
            options.setdefault("largest_first", True)  # CUDA graphs of one batch are then large enough for the next
        return options

    @property
    def _on_gpu(self) -> bool:
        return self.resources.gpus > 0 or self.resources.gpu_memory_gb > 0

    def batching_report(self) -> dict[str, Any]:
        """Return this worker's batching strategy, the changes of its budget, and the figures of `PerformanceMonitor`.

        Empty before `setup`, and after `teardown`, which logs the report.
        """
        if self._transcriber is None:
            return {}
        transcriber = self._transcriber
        return {
            **transcriber.batches.report(),
            "recogniser": transcriber.runtime_info(),
            "performance": transcriber.monitor.get_statistics(),
        }

    def take_measures(self) -> Mapping[str, Any]:
        if self._transcriber is None:
            return {}
        measures = self._transcriber.monitor.take_measures()
        return measures | counted_use(self._transcriber.runtime_info()) if measures else {}

    def describe_measures(self, measures: Mapping[str, Any]) -> Mapping[str, Any]:
        return statistics_of(measures)

    def reads(self) -> Sequence[str]:
        return (self.filepath_key or DEFAULT_FILEPATH_KEY,)

    def writes(self) -> Sequence[str]:
        optional = (("words", self.timestamps), ("confidence", self.confidence))
        return (self.pred_text_key, *(name for name, wanted in optional if wanted))

    def setup(self) -> None:
        if self._transcriber is None:
            transcriber = Transcriber(
                self.make_recogniser(),
                self.make_batches(),
                is_oom=self.is_oom,
                prefetch=self.prefetch_batches,
                out_of_range=self._out_of_range,
            )
            transcriber.setup()
            self._transcriber = transcriber

    def teardown(self) -> None:
        if self._transcriber is not None:
            self._log(self.batching_report())
            transcriber, self._transcriber = self._transcriber, None
            transcriber.close()

    def _log(self, report: Mapping[str, Any]) -> None:
        figures = report["performance"]
        if figures:
            logger.info(
                "{}: {} records, {:.0f} s, in {} batches by {} ({:g} {}), {:.1%} padding; {:.1f} times real time, "
                "{:.1f} s in the model, {:.1f} s waiting for audio, out of memory {} times",
                self.name,
                figures["total_samples"],
                figures["audio_s"],
                figures["batches"],
                report["strategy"],
                report["budget"],
                report["unit"],
                figures["waste"],
                figures.get("rtfx", math.nan),
                figures["model_s"],
                figures["load_wait_s"],
                report["ooms"],
            )

    def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
        """Yield the records with their `pred_text` in parts, as the model finishes them, in any order."""
        if self._transcriber is None:
            raise InfrastructureError(f"stage {self.name!r} is not set up: call setup() before process(batch)")
        outcomes = self._transcriber.run(
            batch.data,
            filepath_key=self.filepath_key or batch.filepath_key,
            roots=self.context.audio_roots,
            announce=self.context.announce,
            settings=self.context.audio,
        )
        with closing(outcomes):
            for outcome in outcomes:
                match outcome:
                    case TranscriptionFailed(record, error):
                        batch.fail(record, error)
                    case OutOfRange(record, reason):
                        batch.reject(record, reason)
                    case Transcribed(records, transcripts):
                        for record, transcript in zip(records, transcripts, strict=True):
                            self._write(record, transcript)
                        yield batch.with_data(records)

    def _out_of_range(self, seconds: float) -> str:
        """Return the reason to filter a record of this length, empty to keep it."""
        if self.min_s is not None and seconds < self.min_s:
            return f"shorter than {self.min_s:g} s"
        if self.max_s is not None and seconds > self.max_s:
            return f"longer than {self.max_s:g} s"
        return ""

    def _write(self, record: Record, transcript: Transcript) -> None:
        record[self.pred_text_key] = transcript.text
        if self.timestamps:
            words = transcript.words or ()
            record["words"] = [attrs.asdict(word, filter=lambda _, value: value is not None) for word in words]
        if self.confidence:
            record["confidence"] = transcript.confidence


@dataclass
class InferenceAsrNemoStage(_AsrStage):
    """Transcribes audio with a NeMo model (CTC, RNNT, TDT or hybrid; characters or word pieces) into `pred_text`.

    The device follows from the resources: with `gpus`, CUDA; otherwise as many threads as `cpus`.

    Args:
        model_name: the path of a `.nemo` file, or the name of a pretrained model, which needs a network once.
        filepath_key: the column with the path of the audio; None: the batch's, `audio_filepath` in a run.
        pred_text_key: the column that is written.
        timestamps: also write `words`: text, start and end in seconds.
        confidence: also write `confidence`, 0 to 1.
        decoder: `ctc` or `rnnt`, for a hybrid model.
        dtype: `fp32`, `bf16` or `fp16`; `auto` is bf16 on GPUs that support it, else fp32.
        decoding: `greedy_batch`, or `greedy`: one record after the other, slow, the same text.
        label_looping: for transducers: False loops over frames, slower, the same text.
        cuda_graphs: for transducers on a GPU: capture the loop as CUDA graphs; False does not.
        attention: `sdpa`: torch's fused kernels, `nemo`: NeMo's own, equal to rounding; `auto` is `sdpa` on a GPU.
        tf32: on a GPU: fp32 matrix products and convolutions may round to TF32, which is faster.
        batching: `static` (`batch_size` records, in arrival order), `length` (records of similar length, at most
            `max_batch_s` padded seconds together), `memory` (records of similar length, as many as fit into the GPU's
            memory; `length` where the memory cannot be measured), `duration` or `bucket`.
        max_batch_s: the budget of a batch in seconds of audio, padding included, also in place of `memory`; not for
            `static`. None: 200.
        memory_share: with `memory`, the share of the free memory that a batch may need, None: 0.8. When it is given,
            batches also grow towards that share of the GPU's memory, as far as measured peaks leave room.
        saturation_s: with `memory`, the padded seconds that saturate the GPU: larger batches are not planned. None: as
            large as the memory allows.
        min_s: shorter records are filtered.
        max_s: longer records are filtered.
        batching_options: further options of the batcher, such as `max_items` or `multiple_of`.
    """

    model_name: str
    decoder: str | None = None
    dtype: str = "auto"
    decoding: str = "greedy_batch"
    label_looping: bool = field(default=True, kw_only=True)
    cuda_graphs: bool = field(default=True, kw_only=True)
    attention: str = field(default="auto", kw_only=True)
    tf32: bool = field(default=False, kw_only=True)

    name = "asr_nemo"
    tuning = _AsrStage.tuning | {"cuda_graphs", "attention"}

    def check(self) -> None:
        super().check()
        check_model(self.model_name, self.decoder)

    def make_recogniser(self) -> Recogniser:
        on_gpu = self._on_gpu
        return NemoRecogniser(
            self.model_name,
            device="cuda" if on_gpu else "cpu",
            dtype=self.dtype,
            decoder=self.decoder,
            timestamps=self.timestamps,
            confidence=self.confidence,
            threads=None if on_gpu else max(1, int(self.resources.cpus)),
            decoding=self.decoding,
            label_looping=self.label_looping,
            cuda_graphs=self.cuda_graphs,
            attention=self.attention,
            tf32=self.tf32,
            gpu_share=self.resources.gpus if 0 < self.resources.gpus < 1 else 1.0,
            gpu_memory_gb=self.resources.gpu_memory_gb or None,
        )

    def fingerprint(self) -> Mapping[str, Any]:
        path = local_path(self.model_name)
        if path is None or not path.is_file():
            return {}
        return {"model_sha256": _sha256(path, path.stat().st_mtime_ns)}


@dataclass
class DynamicBatchAsrStage(InferenceAsrNemoStage):
    """Like `InferenceAsrNemoStage`, with batches of records of similar length that fill a budget and shrink on OOM.

    Without sizes, a batch is as large as the GPU's memory allows, or `max_batch_s` padded seconds if that is given or
    there is no GPU. With `initial_batch_size` the budget is a number of records, which shrinks when memory runs out and
    recovers, never below `min_batch_size`. A batch that still does not fit is split down to the record that does not
    fit alone, and only that record goes to quarantine (`oom`).

    Args:
        initial_batch_size: the number of records to begin with; None: the budget is in memory or seconds.
        min_batch_size: the minimum to which an OOM shrinks the batch size.
        max_batch_size: the maximum to which the batch size grows, if `memory_share` is given.
    """

    batching: str = field(default="memory", kw_only=True)
    initial_batch_size: int | None = None
    min_batch_size: int = 4
    max_batch_size: int = 128

    name = "asr_dynamic"
    tuning = InferenceAsrNemoStage.tuning | {"initial_batch_size", "min_batch_size", "max_batch_size"}

    def make_batches(self) -> MicroBatches:
        if self.initial_batch_size is None:
            return super().make_batches()
        controller = BatchController.by_size(
            self.initial_batch_size, self.min_batch_size, self.max_batch_size, target_share=self.memory_share
        )
        return MicroBatches("length", self._batcher_options("length"), by_size=controller)


@dataclass
class AsrStage(_AsrStage):
    """Transcribes audio with any registered recogniser into `pred_text`; plugins register recognisers by name.

    Args:
        recogniser: a registered name; `curate plugins` lists them.
        options: the recogniser's own settings.
        filepath_key: the column with the path of the audio; None: the batch's, `audio_filepath` in a run.
        pred_text_key: the column that is written.
        timestamps: also write `words`: text, start and end in seconds.
        confidence: also write `confidence`, 0 to 1.
        batching: `static` (`batch_size` records, in arrival order), `length` (records of similar length, at most
            `max_batch_s` padded seconds together), `memory` (records of similar length, as many as fit into the GPU's
            memory; `length` where the memory cannot be measured), `duration` or `bucket`.
        max_batch_s: the budget of a batch in seconds of audio, padding included, also in place of `memory`; not for
            `static`. None: 200.
        memory_share: with `memory`, the share of the free memory that a batch may need, None: 0.8. When it is given,
            batches also grow towards that share of the GPU's memory, as far as measured peaks leave room.
        saturation_s: with `memory`, the padded seconds that saturate the GPU: larger batches are not planned. None: as
            large as the memory allows.
        min_s: shorter records are filtered.
        max_s: longer records are filtered.
        batching_options: further options of the batcher, such as `max_items` or `multiple_of`.
    """

    recogniser: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    name = "asr"

    def resolve(self, host: PluginLookup) -> Self:
        reference = host.recogniser(self.recogniser)
        return self.with_resolved(recogniser=Resolved(reference.load(), reference.distribution))

    def make_recogniser(self) -> Recogniser:
        asked = {name: True for name in ("timestamps", "confidence") if getattr(self, name)}
        try:
            return resolved_setting(self, "recogniser").value(**{**asked, **self.options})
        except TypeError as error:
            raise PlanError(f"recogniser {self.recogniser!r} does not take these options: {error}") from None

    def fingerprint(self) -> Mapping[str, Any]:
        found = resolved_setting(self, "recogniser")
        return {"recogniser_code": describe_code(found.value), "recogniser_version": found.version}


@cache
def _sha256(path: Path, mtime_ns: int) -> str:
    """Return the checksum of a model file, which is read once for each version of it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
