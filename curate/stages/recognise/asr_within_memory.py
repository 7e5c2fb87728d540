"""ASR with the first of several models that fits into a memory limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from curate.batching import Advice, suggest
from curate.composite import CompositeStage
from curate.errors import PlanError
from curate.stage import Stage
from curate.stages.recognise.asr import InferenceAsrNemoStage


@dataclass
class AsrWithinMemory(CompositeStage):
    """Transcribes audio with the first of several NeMo models that fits into a memory limit.

    It stands for one `asr_nemo` stage, `asr`, with the batches that `curate.batching.suggest` recommends; the plan says
    why this model was chosen. Further settings go to the part: `parts: {asr: {timestamps: true}}`.

    Args:
        models: paths or names of models, the preferred first. The size is read from a name that contains `small`,
            `medium` or `large`; otherwise it is given: `{model.nemo: 2.0}`, in GB in fp32.
        gpu_memory_gb: the memory limit, in GB.
        mean_s: the mean length of the records, in seconds.
        max_s: the length of the longest record, in seconds.
        dtype: `fp32`, `bf16` or `fp16`, which need half the memory.
    """

    models: list[str] | dict[str, float]
    gpu_memory_gb: float
    mean_s: float = field(default=5.0, kw_only=True)
    max_s: float = field(default=30.0, kw_only=True)
    dtype: str = field(default="fp32", kw_only=True)

    def advise(self) -> Advice:
        """Return the chosen model and its batches, with the reasons.

        Raises:
            PlanError: none fits, or the size of one is unknown.
        """
        if not self.models:
            raise PlanError("models is empty: give one model or several")
        return suggest(self.gpu_memory_gb, self.models, self.mean_s, self.max_s, self.dtype)

    def notes(self) -> Sequence[str]:
        return (f"model {self.advise().model}: {'; '.join(self.advise().reasons)}",)

    def decompose(self) -> Sequence[Stage]:
        advice = self.advise()
        settings: dict[str, Any] = {"batching": "length", "max_batch_s": round(advice.max_batch_s, 1)}
        stage = InferenceAsrNemoStage(advice.model, dtype=self.dtype, **settings)
        return [stage.with_(name="asr")]
