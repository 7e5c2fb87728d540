"""Turns a model's log-probabilities into the scores that an alignment needs, window by window."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curate.align.lattice import Prices
from curate.align.spelling import WILDCARD, SpelledText
from curate.align.viterbi import Emissions
from curate.models import CtcLabels
from curate.models.ctc import LogProbs


class EmissionCollector:
    """Collects the scores of a recording, of the labels that its text uses, and the best label of each frame.

    Args:
        labels: of the model.
        text: the text that will be aligned.
        prices: of a wildcard's frames.
    """

    def __init__(self, labels: CtcLabels, text: SpelledText, prices: Prices) -> None:
        self._labels = labels
        used = {token for tokens in text.tokens for token in tokens} - {WILDCARD}
        self._used = np.array(sorted(used), np.int64)
        self._wildcard = np.float32(-prices.star_frame)
        self._columns = {int(label): place for place, label in enumerate(self._used)}
        self._scores: list[NDArray[np.float32]] = []
        self._blank: list[NDArray[np.float32]] = []
        self._junction: list[NDArray[np.float32]] = []
        self._best: list[NDArray[np.int32]] = []

    def column(self, token: int) -> int:
        """Return the column of a token in the scores."""
        return len(self._used) if token == WILDCARD else self._columns[token]

    def add(self, log_probs: LogProbs) -> None:
        """Add the next frames."""
        if not len(log_probs):
            return
        best = log_probs.argmax(axis=1)
        top = log_probs.max(axis=1)
        scores = np.empty((len(log_probs), len(self._used) + 1), np.float32)
        np.subtract(log_probs[:, self._used], top[:, None], out=scores[:, :-1])
        scores[:, -1] = self._wildcard
        blank = log_probs[:, self._labels.blank] - top
        separator = self._labels.separator
        junction = blank if separator is None else np.maximum(blank, log_probs[:, separator] - top)
        self._scores.append(scores)
        self._blank.append(blank)
        self._junction.append(junction)
        self._best.append(best.astype(np.int32))

    def add_silence(self, frames: int) -> None:
        """Add frames in which there is nothing."""
        silence = np.full((frames, len(self._labels.texts)), -20.0, np.float32)
        silence[:, self._labels.blank] = 0.0
        self.add(silence)

    def emissions(self) -> Emissions:
        """Return the scores of all frames."""
        if not self._scores:
            nothing = np.empty(0, np.float32)
            return Emissions(np.empty((0, len(self._used) + 1), np.float32), nothing, nothing)
        scores = np.concatenate(self._scores)
        self._scores = [scores]
        return Emissions(scores, np.concatenate(self._blank), np.concatenate(self._junction))

    def best_labels(self) -> NDArray[np.int32]:
        """Return the best label of each frame."""
        return np.concatenate([np.empty(0, np.int32), *self._best])
