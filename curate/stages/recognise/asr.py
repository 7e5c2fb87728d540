"""The ASR stages: their settings and the columns that they write. What runs the model is `AudioModelStage`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from curate.asr import NemoRecogniser, check_model
from curate.asr.checkpoint import model_fingerprint
from curate.batching import BatchController
from curate.errors import PlanError
from curate.fingerprint import describe_code
from curate.models import AudioModel
from curate.models.micro_batches import MicroBatches
from curate.models.model import describe_misfit
from curate.models.stage import build_model
from curate.plugin import resolved_setting
from curate.resolution import PluginLookup, Resolved
from curate.stages.recognise.transcribing import TranscribingStage


@dataclass
class InferenceAsrNemoStage(TranscribingStage):
    """Transcribes audio with a NeMo model (CTC, RNNT, TDT or hybrid; characters or word pieces) into `pred_text`.

    The device follows from the resources: with `gpus`, CUDA; otherwise as many threads as `cpus`.

    Args:
        model_name: the path of a `.nemo` file, or the name of a pretrained model, which needs a network once.
        filepath_key: the column with the path of the audio; None: the batch's, `audio_filepath` in a run.
        pred_text_key: the column that is written.
        prefix: what the names of all columns that are written begin with, so that several recognisers write their own.
        timestamps: also write `words`: `word`, and `start` and `end` in seconds from the start of the record's audio.
        confidence: also write `confidence`, 0 to 1.
        long_form: how a record longer than a window is transcribed: `windows`, overlapping ones, whose words are joined
            where both have the same word; `vad`: along the segments in the column `speech`, as many in a window as fit,
            and once more for those in which no word was recognised. None: as a whole.
        long_window_s: the length of a window, at most; None: the model's own, or 30.
        overlap_s: how much of a window the next one repeats.
        speech_key: the column with the segments of `vad`.
        decoder: `ctc` or `rnnt`, for a hybrid model.
        dtype: `fp32`, `bf16` or `fp16`; `auto` is bf16 on GPUs that support it, else fp32.
        decoding: `greedy_batch`, or `greedy`: one record after the other, slow, the same text.
        label_looping: for transducers: False loops over frames, slower, the same text.
        cuda_graphs: for transducers on a GPU: capture the loop as CUDA graphs; False does not.
        encoder_graphs: on a GPU: run the encoder for small batches in CUDA graphs; equal to rounding.
        side_stream: on a GPU: copy the next batch and compute its features while the model works on the one before.
        attention: `sdpa`: torch's fused kernels, `nemo`: NeMo's own, equal to rounding; `auto` is `sdpa` on a GPU.
        local_attention: the frames of the encoder that each frame attends to on either side, such as 128, for records
            of many minutes: memory grows with their length instead of its square. None: all. It may change the text.
        tf32: on a GPU: fp32 matrix products and convolutions may round to TF32, which is faster.
        batching: `length` (records of similar length, at most `max_batch_s` padded seconds together, and at most
            `batch_size` records where that is set), `memory` (records of similar length, as many as fit into the GPU's
            memory; `length` where the memory cannot be measured), `static` (`batch_size` records, in arrival order),
            `duration` or `bucket`.
        max_batch_s: the budget of a batch in seconds of audio, padding included, also in place of `memory`; not for
            `static`. None: 200 on a GPU, 30 on the CPU.
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
    encoder_graphs: bool = field(default=False, kw_only=True)
    side_stream: bool = field(default=False, kw_only=True)
    attention: str = field(default="auto", kw_only=True)
    local_attention: int | None = field(default=None, kw_only=True)
    tf32: bool = field(default=False, kw_only=True)

    name = "asr_nemo"
    tuning = TranscribingStage.tuning | {"cuda_graphs", "encoder_graphs", "side_stream", "attention"}

    def check(self) -> None:
        super().check()
        check_model(self.model_name, self.decoder, self.local_attention)

    def make_model(self) -> AudioModel:
        return NemoRecogniser(
            self.model_name,
            decoder=self.decoder,
            timestamps=self.needs_words,
            confidence=self.confidence,
            decoding=self.decoding,
            label_looping=self.label_looping,
            cuda_graphs=self.cuda_graphs,
            encoder_graphs=self.encoder_graphs,
            side_stream=self.side_stream,
            attention=self.attention,
            local_attention=self.local_attention,
            tf32=self.tf32,
        )

    def fingerprint(self) -> Mapping[str, Any]:
        return model_fingerprint(self.model_name)


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
        return MicroBatches("length", self.batcher_options("length"), by_size=controller)


@dataclass
class AsrStage(TranscribingStage):
    """Transcribes audio with any registered recogniser into `pred_text`; plugins register recognisers by name.

    Args:
        recogniser: a registered name; `curate plugins` lists them.
        options: the recogniser's own settings.
        filepath_key: the column with the path of the audio; None: the batch's, `audio_filepath` in a run.
        pred_text_key: the column that is written.
        prefix: what the names of all columns that are written begin with, so that several recognisers write their own.
        timestamps: also write `words`: `word`, and `start` and `end` in seconds from the start of the record's audio.
        confidence: also write `confidence`, 0 to 1.
        long_form: how a record longer than a window is transcribed: `windows`, overlapping ones, whose words are joined
            where both have the same word; `vad`: along the segments in the column `speech`, as many in a window as fit,
            and once more for those in which no word was recognised. None: as a whole.
        long_window_s: the length of a window, at most; None: the model's own, or 30.
        overlap_s: how much of a window the next one repeats.
        speech_key: the column with the segments of `vad`.
        batching: `length` (records of similar length, at most `max_batch_s` padded seconds together, and at most
            `batch_size` records where that is set), `memory` (records of similar length, as many as fit into the GPU's
            memory; `length` where the memory cannot be measured), `static` (`batch_size` records, in arrival order),
            `duration` or `bucket`.
        max_batch_s: the budget of a batch in seconds of audio, padding included, also in place of `memory`; not for
            `static`. None: 200 on a GPU, 30 on the CPU.
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
        return self.with_resolved(recogniser=resolve_recogniser(self.recogniser, host))

    def make_model(self) -> AudioModel:
        asked = {"timestamps": self.needs_words, "confidence": self.confidence}
        asked = {name: True for name, wanted in asked.items() if wanted}
        found = resolved_setting(self, "recogniser").value
        return build_model(found, {**asked, **self.options}, f"recogniser {self.recogniser!r}")

    def fingerprint(self) -> Mapping[str, Any]:
        found = resolved_setting(self, "recogniser")
        return {
            **self.make_model().fingerprint(),
            "recogniser_code": describe_code(found.value),
            "recogniser_version": found.version,
        }


def resolve_recogniser(name: str, host: PluginLookup) -> Resolved:
    """Return the class that a `recogniser` setting names.

    Raises:
        PluginError: no plugin announces it, or it cannot be imported.
        PlanError: it is not an audio model.
    """
    reference = host.recogniser(name)
    found = reference.load()
    if misfit := describe_misfit(found):
        raise PlanError(f"recogniser {name!r} of {reference.distribution or 'a plugin'}: {misfit}")
    return Resolved(found, reference.distribution)
