"""The ASR stages: what they are told, and what they write. How a worker does it is in `transcription`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs

from curate.asr import NemoRecogniser, Recogniser, Transcript, check_model, is_oom
from curate.audio import ASSUMED_DURATION_S
from curate.batching import ITEMS, BatchController, Batcher, make_batcher
from curate.errors import InfrastructureError, PlanError
from curate.plugin import current_host
from curate.records import DEFAULT_FILEPATH_KEY, AudioBatch, Record
from curate.settings import describe_code
from curate.stage import ProcessingStage
from curate.stages.transcription import LeftOut, Recognised, Refused, Transcriber


@dataclass
class _AsrStage(ProcessingStage):
    """What all ASR stages share: batching, loading ahead, and writing what was recognised."""

    filepath_key: str | None = field(default=None, kw_only=True)
    pred_text_key: str = field(default="pred_text", kw_only=True)
    timestamps: bool = field(default=False, kw_only=True)
    confidence: bool = field(default=False, kw_only=True)
    batching: str = field(default="static", kw_only=True)
    max_batch_s: float = field(default=200.0, kw_only=True)
    min_s: float | None = field(default=None, kw_only=True)
    max_s: float | None = field(default=None, kw_only=True)
    batching_options: Mapping[str, Any] = field(default_factory=dict[str, Any], kw_only=True)

    batch_size = 16
    prefetch_batches = 2
    checkpoint = True
    thread_safe = False
    tuning = frozenset({"batching", "max_batch_s", "batching_options"})

    def __post_init__(self) -> None:
        self._transcriber: Transcriber | None = None
        leaves_out = self.min_s is not None or self.max_s is not None or self.batching_options.get("drop_remainder")
        self.cardinality = "filters" if leaves_out else "maps"

    def make_recogniser(self) -> Recogniser:
        """Return the recogniser of one worker, not yet set up."""
        raise NotImplementedError(f"{type(self).__name__} must define make_recogniser()")

    def is_oom(self, error: BaseException) -> bool:
        """Say whether an error of the recogniser means that a smaller batch should be tried here.

        With `static` batches none does: whoever calls is told, and the engine narrows down to the guilty record.
        """
        return self.batching != "static" and is_oom(error)

    def check(self) -> None:
        if self.batching_options.get("drop_remainder") and self.batching != "static":
            raise PlanError("drop_remainder would leave out other records with another budget; it is for training")
        self.make_batching()
        self.make_recogniser()

    def make_batching(self) -> tuple[Batcher, BatchController]:
        """Return what plans the micro-batches, and what holds them against the memory there is."""
        options: dict[str, Any] = {"min_s": self.min_s, "max_s": self.max_s, **self.batching_options}
        if self.batching == "static":
            controller = BatchController(float(self.batch_size), ITEMS)
            return make_batcher("static", batch_size=self.batch_size, **options), controller
        controller = BatchController(self.max_batch_s)
        options = {"max_batch_s": self.max_batch_s, "assumed_s": ASSUMED_DURATION_S, **options}
        if self.batching == "length":
            options["scale"] = controller.scale
        return make_batcher(self.batching, **options), controller

    def reads(self) -> Sequence[str]:
        return (self.filepath_key or DEFAULT_FILEPATH_KEY,)

    def writes(self) -> Sequence[str]:
        optional = (("words", self.timestamps), ("confidence", self.confidence))
        return (self.pred_text_key, *(name for name, wanted in optional if wanted))

    def setup(self) -> None:
        if self._transcriber is None:
            batcher, controller = self.make_batching()
            batch_s = self.batch_size * ASSUMED_DURATION_S if self.batching == "static" else self.max_batch_s
            transcriber = Transcriber(
                self.make_recogniser(),
                batcher,
                controller,
                is_oom=self.is_oom,
                ahead_s=max(1, self.prefetch_batches) * batch_s,
            )
            transcriber.setup()
            self._transcriber = transcriber

    def teardown(self) -> None:
        if self._transcriber is not None:
            self._transcriber.close()
            self._transcriber = None

    def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
        """Yield the records with their `pred_text` in parts, as the model is done with them, in any order."""
        if self._transcriber is None:
            raise InfrastructureError(f"stage {self.name!r} was not set up: call setup() before process(batch)")
        outcomes = self._transcriber.run(
            batch, filepath_key=self.filepath_key or batch.filepath_key, roots=self.context.audio_roots
        )
        with closing(outcomes):
            for outcome in outcomes:
                match outcome:
                    case Refused(record, error):
                        batch.fail(record, error)
                    case LeftOut(record, reason):
                        batch.reject(record, reason)
                    case Recognised(records, transcripts):
                        for record, transcript in zip(records, transcripts, strict=True):
                            self._write(record, transcript)
                        yield batch.with_data(records)

    def _write(self, record: Record, transcript: Transcript) -> None:
        record[self.pred_text_key] = transcript.text
        if self.timestamps:
            words = transcript.words or ()
            record["words"] = [attrs.asdict(word, filter=lambda _, value: value is not None) for word in words]
        if self.confidence:
            record["confidence"] = transcript.confidence


@dataclass
class InferenceAsrNemoStage(_AsrStage):
    """Writes what a NeMo model recognises (CTC, RNNT, TDT or hybrid; characters or word pieces) to `pred_text`.

    The device follows from the resources: with `gpus`, CUDA; otherwise as many threads as `cpus`.

    Args:
        model_name: the path of a `.nemo` file, or the name of a pretrained model, which needs a network once.
        filepath_key: the column with the path of the audio; None: the batch's, `audio_filepath` in a run.
        pred_text_key: the column that is written.
        timestamps: also write `words`: text, start and end in seconds.
        confidence: also write `confidence`, 0 to 1.
        decoder: `ctc` or `rnnt`, for a hybrid model.
        dtype: `fp32`, `bf16` or `fp16`; half precision is for cards.
        decoding: `greedy_batch` (with label looping), or `greedy`.
        batching: `static` (`batch_size` records, in the order they come), `length` (records of like length, at most
            `max_batch_s` padded seconds at once), `duration` or `bucket`.
        max_batch_s: the budget of a batch in seconds of audio, padding included; not for `static`.
        min_s: shorter records are filtered.
        max_s: longer records are filtered.
        batching_options: further options of the batcher, such as `max_items` or `multiple_of`.
    """

    model_name: str
    decoder: str | None = None
    dtype: str = "fp32"
    decoding: str = "greedy_batch"

    name = "asr_nemo"

    def check(self) -> None:
        super().check()
        check_model(self.model_name, self.decoder)

    def make_recogniser(self) -> Recogniser:
        on_gpu = self.resources.gpus > 0
        return NemoRecogniser(
            self.model_name,
            device="cuda" if on_gpu else "cpu",
            dtype=self.dtype,
            decoder=self.decoder,
            timestamps=self.timestamps,
            confidence=self.confidence,
            threads=None if on_gpu else max(1, int(self.resources.cpus)),
            decoding=self.decoding,
        )

    def fingerprint(self) -> Mapping[str, Any]:
        path = Path(self.model_name)
        return {"model_sha256": _sha256(path, path.stat().st_mtime_ns)} if path.is_file() else {}


@dataclass
class DynamicBatchAsrStage(InferenceAsrNemoStage):
    """As `InferenceAsrNemoStage`, with batches of records of like length that fill a budget and shrink when they must.

    Without sizes, a batch is at most `max_batch_s` padded seconds. With `initial_batch_size` it is a number of records,
    which shrinks when memory runs out and recovers, never below `min_batch_size`; whatever still does not fit is split
    down to the record that does not fit by itself, and only that one goes to quarantine (`oom`).

    Args:
        initial_batch_size: the number of records to begin with; None: the budget is in seconds.
        min_batch_size: the least that running out of memory shrinks it to.
        max_batch_size: the most that it grows to, where a target share of memory is known.
    """

    batching: str = field(default="length", kw_only=True)
    initial_batch_size: int | None = None
    min_batch_size: int = 4
    max_batch_size: int = 128

    name = "asr_dynamic"
    tuning = InferenceAsrNemoStage.tuning | {"initial_batch_size", "min_batch_size", "max_batch_size"}

    def make_batching(self) -> tuple[Batcher, BatchController]:
        if self.initial_batch_size is None:
            return super().make_batching()
        controller = BatchController.by_size(self.initial_batch_size, self.min_batch_size, self.max_batch_size)
        options: dict[str, Any] = {"assumed_s": ASSUMED_DURATION_S, "cost": ITEMS, "scale": controller.scale}
        options |= {"max_batch_s": controller.budget, "min_s": self.min_s, "max_s": self.max_s, **self.batching_options}
        return make_batcher("length", **options), controller


@dataclass
class AsrStage(_AsrStage):
    """Writes what any recogniser hears to `pred_text`; plugins announce recognisers by name.

    Args:
        recogniser: a registered name, `curate plugins` lists them.
        options: the recogniser's own settings.
        filepath_key: the column with the path of the audio; None: the batch's, `audio_filepath` in a run.
        pred_text_key: the column that is written.
        timestamps: also write `words`: text, start and end in seconds.
        confidence: also write `confidence`, 0 to 1.
        batching: `static` (`batch_size` records, in the order they come), `length` (records of like length, at most
            `max_batch_s` padded seconds at once), `duration` or `bucket`.
        max_batch_s: the budget of a batch in seconds of audio, padding included; not for `static`.
        min_s: shorter records are filtered.
        max_s: longer records are filtered.
        batching_options: further options of the batcher, such as `max_items` or `multiple_of`.
    """

    recogniser: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    name = "asr"

    def make_recogniser(self) -> Recogniser:
        reference = current_host().recogniser(self.recogniser)
        asked = {name: True for name in ("timestamps", "confidence") if getattr(self, name)}
        try:
            return reference.load()(**{**asked, **self.options})
        except TypeError as error:
            raise PlanError(f"recogniser {self.recogniser!r} does not take these options: {error}") from None

    def fingerprint(self) -> Mapping[str, Any]:
        reference = current_host().recogniser(self.recogniser)
        try:
            version = metadata.version(reference.distribution)
        except (metadata.PackageNotFoundError, ValueError):  # it comes from a plugins-file
            version = ""
        return {"recogniser_code": describe_code(reference.load()), "recogniser_version": version}


@cache
def _sha256(path: Path, mtime_ns: int) -> str:
    """Return the checksum of a model file; reading it once for each version of it is enough."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
