"""The verdict on two texts: near duplicates or not.

Below 40 letters the texts are compared letter by letter, because one changed word costs a short text most of its
3-grams; from 40 on by their 3-grams, which a changed order of words hardly touches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curate.corpus.minhash import jaccard

MIN_SIMILARITY = 0.8
"""From this similarity on, two texts are near duplicates: edit similarity or Jaccard similarity."""

SHORT_LETTERS = 40
"""Below this number of letters, blanks not counted, of the longer text the edit similarity decides."""


def count_letters(text: str) -> int:
    """Return the number of characters of a normalised text, blanks not counted."""
    return len(text) - text.count(" ")


def edit_similarity(one: str, other: str) -> float:
    """Return 1 − (insertions, deletions and substitutions / characters of the longer text), blanks counted."""
    from rapidfuzz.distance import Levenshtein

    return 1 - Levenshtein.distance(one, other) / max(len(one), len(other), 1)


def is_near_duplicate(one: str, other: str) -> bool:
    """Return whether two normalised texts are near duplicates: the rule that `deduplicate` applies to candidates."""
    from rapidfuzz.distance import Levenshtein

    if max(count_letters(one), count_letters(other)) < SHORT_LETTERS:
        return _few_edits(one, other, Levenshtein.distance(one, other))
    return jaccard(one, other) >= MIN_SIMILARITY


def near_duplicates(ones: Sequence[str], others: Sequence[str]) -> list[bool]:
    """Return `is_near_duplicate` of each pair: `ones[i]` with `others[i]`."""
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cpdist

    verdicts = [False] * len(ones)
    short: list[int] = []
    for index, (one, other) in enumerate(zip(ones, others, strict=True)):
        if max(count_letters(one), count_letters(other)) < SHORT_LETTERS:
            short.append(index)
        else:
            verdicts[index] = jaccard(one, other) >= MIN_SIMILARITY
    if short:
        pairs = [ones[index] for index in short], [others[index] for index in short]
        edits: Any = cpdist(*pairs, scorer=Levenshtein.distance, workers=1)
        for index, count in zip(short, edits.tolist(), strict=True):
            verdicts[index] = _few_edits(ones[index], others[index], count)
    return verdicts


def _few_edits(one: str, other: str, edits: int) -> bool:
    """Return whether the edit similarity is 0.8 or more, in whole numbers: 1 − 1/5 must not depend on rounding."""
    return edits * 5 <= max(len(one), len(other))
