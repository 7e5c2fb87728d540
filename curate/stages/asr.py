"""Transcribes speech: audio is read and decoded ahead of the model, and records go on as soon as they are done."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from curate.asr import NemoRecogniser, Recogniser, Transcript, check_model
from curate.audio import load_ahead
from curate.errors import InfrastructureError, PlanError, RecordError
from curate.plugin import default_host
from curate.records import DEFAULT_FILEPATH_KEY, AudioBatch, Record
from curate.stage import ProcessingStage

if TYPE_CHECKING:
    from curate.asr.recogniser import Waveform


@dataclass
class _AsrStage(ProcessingStage):
    """What all ASR stages share: loading ahead, batching, and writing what was recognised."""

    filepath_key: str | None = field(default=None, kw_only=True)
    pred_text_key: str = field(default="pred_text", kw_only=True)
    timestamps: bool = field(default=False, kw_only=True)
    confidence: bool = field(default=False, kw_only=True)

    batch_size = 16
    checkpoint = True
    thread_safe = False

    def __post_init__(self) -> None:
        self._recogniser: Recogniser | None = None

    def make_recogniser(self) -> Recogniser:
        """Return the recogniser of one worker, not yet set up."""
        raise NotImplementedError(f"{type(self).__name__} must define make_recogniser()")

    def reads(self) -> Sequence[str]:
        return (self.filepath_key or DEFAULT_FILEPATH_KEY,)

    def writes(self) -> Sequence[str]:
        optional = (("words", self.timestamps), ("confidence", self.confidence))
        return (self.pred_text_key, *(name for name, wanted in optional if wanted))

    def setup(self) -> None:
        if self._recogniser is None:
            recogniser = self.make_recogniser()
            recogniser.setup()
            self._recogniser = recogniser

    def teardown(self) -> None:
        if self._recogniser is not None:
            self._recogniser.close()
            self._recogniser = None

    def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
        """Yield the records with their `pred_text`, as many at a time as the model sees at once."""
        recogniser = self._recogniser
        if recogniser is None:
            raise InfrastructureError(f"stage {self.name!r} was not set up: call setup() before process(batch)")
        ahead = load_ahead(
            batch.data,
            rate_hz=recogniser.rate_hz,
            roots=self.context.audio_roots,
            filepath_key=self.filepath_key or batch.filepath_key,
        )
        waiting: list[tuple[Record, Waveform]] = []
        with closing(ahead):
            for record, loaded in ahead:
                if isinstance(loaded, RecordError):
                    batch.fail(record, loaded)
                    continue
                waiting.append((record, loaded))
                if len(waiting) >= self.batch_size:
                    yield self._transcribe(recogniser, batch, waiting)
                    waiting = []
        if waiting:
            yield self._transcribe(recogniser, batch, waiting)

    def _transcribe(
        self, recogniser: Recogniser, batch: AudioBatch, loaded: Sequence[tuple[Record, Waveform]]
    ) -> AudioBatch:
        records = [record for record, _ in loaded]
        batch.announce(records)
        transcripts = recogniser.transcribe([waveform for _, waveform in loaded])
        if len(transcripts) != len(records):
            raise InfrastructureError(
                f"stage {self.name!r}: the recogniser {type(recogniser).__name__} returned {len(transcripts)} "
                f"transcripts for {len(records)} waveforms"
            )
        for record, transcript in zip(records, transcripts, strict=True):
            self._write(record, transcript)
        return batch.with_data(records)

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
    """

    model_name: str
    decoder: str | None = None
    dtype: str = "fp32"
    decoding: str = "greedy_batch"

    name = "asr_nemo"

    def check(self) -> None:
        self.make_recogniser()
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
class AsrStage(_AsrStage):
    """Writes what any recogniser hears to `pred_text`; plugins announce recognisers by name.

    Args:
        recogniser: a registered name, `curate plugins` lists them.
        options: the recogniser's own settings.
        filepath_key: the column with the path of the audio; None: the batch's, `audio_filepath` in a run.
        pred_text_key: the column that is written.
        timestamps: also write `words`: text, start and end in seconds.
        confidence: also write `confidence`, 0 to 1.
    """

    recogniser: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    name = "asr"

    def check(self) -> None:
        self.make_recogniser()

    def make_recogniser(self) -> Recogniser:
        reference = default_host().recogniser(self.recogniser)
        asked = {name: True for name in ("timestamps", "confidence") if getattr(self, name)}
        try:
            return reference.load()(**{**asked, **self.options})
        except TypeError as error:
            raise PlanError(f"recogniser {self.recogniser!r} does not take these options: {error}") from None

    def fingerprint(self) -> Mapping[str, Any]:
        distribution = default_host().recogniser(self.recogniser).distribution
        return {"recogniser_version": f"{distribution} {metadata.version(distribution)}"} if distribution else {}


@cache
def _sha256(path: Path, mtime_ns: int) -> str:
    """Return the checksum of a model file; reading it once for each version of it is enough."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
