"""The score of an utterance, from the scores of its words."""

from __future__ import annotations

from collections.abc import Iterable


def mean_score(scores: Iterable[float | None], extra_words: float = 0.0) -> float | None:
    """Return how well text and audio agree, 0 to 1; None where no word could be scored.

    It is the mean score of the words, in which words that the audio does not have count 0, as do words' worth of audio
    that the text does not cover: about the share of words that are right.

    Args:
        scores: of the words; None: of a word that nothing speaks for or against, which does not count.
        extra_words: the number of words that the uncovered audio would be spelled with.
    """
    known = [score for score in scores if score is not None]
    return sum(known) / (len(known) + extra_words) if known else None
