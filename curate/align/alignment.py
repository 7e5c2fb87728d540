"""Aligns a spelled text with the emissions of its audio: the frames and scores of words, and what is left over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import attrs
import numpy as np
from numpy.typing import NDArray

from curate.align.emissions import EmissionCollector
from curate.align.lattice import Lattice, Prices
from curate.align.scores import mean_score
from curate.align.spelling import WILDCARD, SpelledText
from curate.align.viterbi import Emissions, find_path
from curate.models import CtcLabels
from curate.text.sentences import ends_sentence


@attrs.frozen
class AlignedWord:
    """A word of the text with its frames.

    Args:
        number: its place in the text.
        start, end: its first frame, and the one behind its last.
        score: 0 to 1; None: of wildcards alone, so that nothing speaks for it or against it.
    """

    number: int
    start: int
    end: int
    score: float | None


@attrs.frozen
class UncoveredAudio:
    """Audio that the text does not cover.

    Args:
        start, end: its first frame, and the one behind its last.
        labels: the labels that the model reads in it, those that separate words included.
        sounds: how many of them do not separate words.
        before: the place in the text of the word behind it; -1: there is none.
    """

    start: int
    end: int
    labels: tuple[int, ...]
    sounds: int
    before: int


@attrs.frozen
class Alignment:
    """Text aligned with its audio.

    Args:
        words: the words that the audio has, in order; those of punctuation alone are left out.
        missing: the places in the text of the words that the audio does not have, in order.
        uncovered: the audio that the text does not cover.
        tokens_per_word: the mean number of labels that spell a word.
    """

    words: tuple[AlignedWord, ...]
    missing: tuple[int, ...]
    uncovered: tuple[UncoveredAudio, ...]
    tokens_per_word: float

    def score(self) -> float | None:
        """Return how well text and audio agree, 0 to 1; None where the text has no word that could be scored."""
        scores = [word.score for word in self.words] + [0.0] * len(self.missing)
        return mean_score(scores, sum(map(self.extra_words, self.uncovered)))

    def extra_words(self, uncovered: UncoveredAudio) -> float:
        """Return the number of words that uncovered audio would be spelled with, as long as those of the text."""
        return uncovered.sounds / self.tokens_per_word


def align(text: SpelledText, collector: EmissionCollector, labels: CtcLabels, prices: Prices) -> Alignment:
    """Find where the words of the text are in the audio.

    Args:
        text: spelled in the model's labels.
        collector: holds the emissions of the audio.
        labels: of the model.
        prices: of leaving text or audio out.
    """
    spelled = [number for number, tokens in enumerate(text.tokens) if tokens]
    flat = [(number, token) for number in spelled for token in text.tokens[number]]
    columns = np.array([collector.column(token) for _, token in flat], np.int64)
    sizes = [len(text.tokens[number]) for number in spelled]
    junctions = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    emissions = collector.emissions()
    last_words = _last_words(text)
    ends = np.array([True, *(number in last_words for number in spelled)])
    path = find_path(Lattice.of(columns, junctions, prices, ends), emissions)
    inside = (path > len(flat)) & (path <= 2 * len(flat))
    token_of = np.where(inside, path - len(flat) - 1, -1)
    word_of = _words_by_frame(path, token_of, junctions, len(flat))
    words = _words(emissions, columns, path, word_of, spelled, text)
    found = {word.number for word in words}
    frames_of_words = np.zeros(len(path), bool)
    for word in words:
        frames_of_words[word.start : word.end] = True
    uncovered = _uncovered(collector.best_labels(), frames_of_words, labels, words)
    return Alignment(
        tuple(words),
        tuple(number for number in spelled if number not in found),
        tuple(uncovered),
        sum(sizes) / len(sizes) if sizes else 4.0,
    )


def _last_words(text: SpelledText) -> set[int]:
    """Return the places of the last words of sentences; where only punctuation ends one, that of the word before."""
    last_words: set[int] = set()
    before = -1
    for number, (word, tokens) in enumerate(zip(text.words, text.tokens, strict=True)):
        before = number if tokens else before
        if ends_sentence(word):
            last_words.add(before)
    return last_words


def _words_by_frame(
    path: NDArray[np.int64], token_of: NDArray[np.int64], junctions: NDArray[np.int64], tokens: int
) -> NDArray[np.int64]:
    """Return the place of the word that each frame belongs to, blanks inside of words included; -1: it is outside."""
    place = np.where(path <= tokens, path, -1)  # of blanks
    word = np.searchsorted(junctions, np.where(token_of >= 0, token_of, place), side="right") - 1
    is_junction = (token_of < 0) & ((place < 0) | np.isin(place, junctions))
    return np.where(is_junction, -1, word)


def _words(
    emissions: Emissions,
    columns: NDArray[np.int64],
    path: NDArray[np.int64],
    word_of: NDArray[np.int64],
    spelled: Sequence[int],
    text: SpelledText,
) -> list[AlignedWord]:
    """Return the words that have frames."""
    words: list[AlignedWord] = []
    edges = np.flatnonzero(np.diff(np.concatenate([[-1], word_of, [-1]])))
    for start, end in pairwise(edges.tolist()):
        if word_of[start] < 0:
            continue
        number = spelled[int(word_of[start])]
        tokens = text.tokens[number]
        states = path[start:end]
        is_token = states > len(columns)
        columns_of = columns[np.where(is_token, states - len(columns) - 1, 0)]
        frames = np.arange(start, end)
        costs = np.where(is_token, emissions.scores[frames, columns_of], emissions.blank[frames])
        costs[is_token & (columns_of == emissions.scores.shape[1] - 1)] = 0.0  # of wildcards
        audible = [token for token in tokens if token != WILDCARD]
        score = math.exp(float(costs.sum()) / len(audible)) if audible else None
        words.append(AlignedWord(number, start, end, score))
    return words


def _uncovered(
    best: NDArray[np.int32], in_words: NDArray[np.bool_], labels: CtcLabels, words: Sequence[AlignedWord]
) -> list[UncoveredAudio]:
    """Return the passages between words in which the model reads labels; a run that touches a word belongs to it."""
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    ends = np.append(starts[1:], len(best))
    kept = (best[starts] != labels.blank) & (np.add.reduceat(in_words, starts) == 0 if len(starts) else False)
    first_frames = np.array([word.start for word in words])
    found: list[UncoveredAudio] = []
    start: int
    for start, end, label in zip(starts[kept].tolist(), ends[kept].tolist(), best[starts[kept]].tolist(), strict=True):
        separates = label == labels.separator
        behind = int(np.searchsorted(first_frames, start))
        before = words[behind].number if behind < len(words) else -1
        if found and found[-1].before == before:
            last = found[-1]
            found[-1] = attrs.evolve(
                last,
                end=last.end if separates else end,
                labels=(*last.labels, label),
                sounds=last.sounds + (not separates),
            )
        elif not separates:
            found.append(UncoveredAudio(start, end, (label,), 1, before))
    return found
