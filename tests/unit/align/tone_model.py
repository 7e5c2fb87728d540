"""A CTC model without a network: each letter is a tone, so that speech, its times and its model can be made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from curate.align import AlignmentModel
from curate.errors import PlanError
from curate.models import AudioModel, Clip, CtcLabels
from curate.plugin import Resolved
from curate.resolution import PluginLookup
from curate.stages import Align

RATE_HZ = 8_000
FRAME_S = 0.02
LETTERS = "abcdefghij"
LETTER_S = 0.08
FREQUENCIES_HZ = np.array([600.0 + 250.0 * place for place in range(len(LETTERS))])
SEPARATOR_HZ = 300.0


def say(text: str, *, pause_s: float = 0.16, edge_s: float = 0.2, noise: float = 1e-3, seed: int = 0) -> Any:
    """Return the tones of a text: 80 ms for each letter, a faint low tone and silence between words."""

    def tone(frequency_hz: float, length_s: float, level: float) -> Any:
        return level * np.sin(2 * np.pi * frequency_hz * np.arange(round(length_s * RATE_HZ)) / RATE_HZ)

    parts = [np.zeros(round(edge_s * RATE_HZ))]
    for word in text.split():
        parts += [tone(FREQUENCIES_HZ[LETTERS.index(letter)], LETTER_S, 0.3) for letter in word]
        parts += [tone(SEPARATOR_HZ, FRAME_S, 0.03), np.zeros(round((pause_s - FRAME_S) * RATE_HZ))]
    samples = np.concatenate([*parts, np.zeros(round(edge_s * RATE_HZ))])
    return (samples + np.random.default_rng(seed).normal(0, noise, len(samples))).astype(np.float32)


class ToneModel(AudioModel):
    """Reads tones. Its labels are a space, ten letters, and the blank."""

    rate_hz = RATE_HZ
    writes = ("text",)
    longest_s = 0.0
    """The longest clip that it has computed."""

    def infer(self, clips: Sequence[Clip]) -> Any:
        labels = [np.argmax(each, axis=1) for each in self.log_probs(clips)]
        texts = ["".join(" abcdefghij_"[label] for label in each) for each in labels]
        return [{"text": text.replace("_", "")} for text in texts]

    def check_ctc(self) -> None:
        """It has a CTC head."""

    def ctc_labels(self) -> CtcLabels:
        return CtcLabels((" ", *LETTERS, ""), len(LETTERS) + 1, FRAME_S, 0)

    def log_probs(self, clips: Sequence[Clip]) -> list[Any]:
        self.longest_s = max([self.longest_s, *(clip.duration_s for clip in clips)])
        return [self._log_probs(clip.samples) for clip in clips]

    def _log_probs(self, samples: Any) -> Any:
        step = round(FRAME_S * RATE_HZ)
        frames = samples[: len(samples) // step * step].reshape(-1, step).astype(np.float64)
        time_s = np.arange(step) / RATE_HZ
        waves = np.exp(-2j * np.pi * np.outer(np.array([SEPARATOR_HZ, *FREQUENCIES_HZ]), time_s))
        levels = np.abs(frames @ waves.T) / step  # half the tone's amplitude
        scores = np.column_stack([levels * 100, np.full(len(frames), 6.0)])
        scores[:, 0] *= 10
        return (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))).astype(np.float32)


class HeadlessModel(AudioModel):
    """A recogniser without a CTC head."""

    writes = ("text",)


class TransducerModel(ToneModel):
    """A recogniser whose kind may have a CTC head, and which has none."""

    def check_ctc(self) -> None:
        raise PlanError("model.nemo: has only rnnt")


@dataclass
class ToneAlign(Align):
    """The stage with a recogniser of its own."""

    recogniser: str = "tones"

    def resolve(self, host: PluginLookup) -> Self:
        models = {"tones": ToneModel, "headless": HeadlessModel, "transducer": TransducerModel}
        return self.with_resolved(recogniser=Resolved(models[self.recogniser]))


def alignment_model(**settings: Any) -> AlignmentModel:
    return AlignmentModel(ToneModel(), **settings)
