"""Long recordings as windows: where they lie, and how the words of neighbouring windows become one text.

Neighbouring windows overlap, so each word of the overlap is recognised twice, and one that a window's edge cuts is
whole in the other. The seam is a word that both windows have, as near to the middle of the overlap as possible: the
words up to it are those of the first window, the words after it those of the second. Times alone do not suffice,
because two windows place the same word up to some tenths of a second apart.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

import attrs

from curate.asr import Word

Span: TypeAlias = tuple[float, float]
"""Start and end, in seconds from the start of the recording."""

SAME_WORD_S = 1.0
"""How far apart two windows may place the same word."""

_TOLERANCE_S = 1e-6
_WORD_S = 1.0
_NEAR_S = 0.5
_WORDLESS_S = 1.0
"""The least length of speech without a word, further than `_NEAR_S` from any, that is recognised again."""


def overlapping_windows(start_s: float, end_s: float, window_s: float, overlap_s: float) -> list[Span]:
    """Return windows of one length, at most `window_s`, that overlap by `overlap_s` and cover the span."""
    length_s = end_s - start_s
    if length_s <= window_s + _TOLERANCE_S:
        return [(start_s, end_s)]
    count = 1
    while window_s * count - overlap_s * (count - 1) < length_s - _TOLERANCE_S:
        count += 1
    even_s = (length_s + (count - 1) * overlap_s) / count
    step_s = even_s - overlap_s
    starts = [start_s, *(round(start_s + place * step_s, 3) for place in range(1, count))]
    return [(at, min(end_s, round(at + even_s, 3))) for at in starts[:-1]] + [(starts[-1], end_s)]


def speech_windows(speech: Sequence[Span], window_s: float, overlap_s: float) -> list[Span]:
    """Return windows that begin and end with speech: neighbouring segments together, as many as one window holds.

    A segment longer than a window becomes overlapping windows.
    """
    windows: list[Span] = []
    is_open = False  # whether the last window may take the next segment
    for start_s, end_s in speech:
        if end_s - start_s > window_s + _TOLERANCE_S:
            windows += overlapping_windows(start_s, end_s, window_s, overlap_s)
            is_open = False
        elif is_open and end_s - windows[-1][0] <= window_s + _TOLERANCE_S:
            windows[-1] = (windows[-1][0], end_s)
        else:
            windows.append((start_s, end_s))
            is_open = True
    return windows


def wordless_spans(speech: Sequence[Span], words: Sequence[Word], window_s: float) -> list[Span]:
    """Return where speech lies in which no word was recognised, as windows of at most `window_s`.

    Whisper may end its text at a pause, or begin with the loudest speaker, and leave out the rest of a window. A word
    counts for the second before its end, because the times of first words reach back over what was left out.
    """
    spoken = sorted((max(word.start_s, word.end_s - _WORD_S), word.end_s) for word in words)
    edges = [(-math.inf, -math.inf), *spoken, (math.inf, math.inf)]
    windows: list[Span] = []
    for (_, begins_s), (ends_s, _) in pairwise(edges):
        is_open = False
        for start_s, end_s in speech:
            piece = max(start_s, begins_s), min(end_s, ends_s)
            sure_s = min(end_s, ends_s - _NEAR_S) - max(start_s, begins_s + _NEAR_S)
            if sure_s < _WORDLESS_S or piece[1] - piece[0] > window_s + _TOLERANCE_S:
                continue
            if is_open and piece[1] - windows[-1][0] <= window_s + _TOLERANCE_S:
                windows[-1] = (windows[-1][0], piece[1])
            else:
                windows.append(piece)
                is_open = True
    return windows


def insert_words(words: Sequence[Word], found: Sequence[Word], span: Span) -> list[Word]:
    """Return words with those that were found in a span between them, in order."""
    at_s = (span[0] + span[1]) / 2
    place = next((place for place, word in enumerate(words) if _middle_s(word) > at_s), len(words))
    return _in_order([*words[:place], *found, *words[place:]])


def merge_words(windows: Sequence[Span], words: Sequence[Sequence[Word]]) -> list[Word]:
    """Return the words of a recording from those of its windows, in order, none twice.

    Args:
        windows: in the order of their starts.
        words: those of each window, with times from the start of the recording.
    """
    merged: list[Word] = []
    until_s = 0.0
    for (start_s, end_s), found in zip(windows, words, strict=True):
        merged = _joined(merged, list(found), start_s, until_s) if start_s < until_s else [*merged, *found]
        until_s = end_s
    return _in_order(merged)


def _joined(before: list[Word], after: list[Word], start_s: float, end_s: float) -> list[Word]:
    """Return the words of two windows whose overlap is from `start_s` to `end_s`."""
    middle_s = (start_s + end_s) / 2
    first = next((i for i, word in enumerate(before) if word.end_s > start_s - SAME_WORD_S), len(before))
    last = next((j for j, word in enumerate(after) if word.start_s > end_s + SAME_WORD_S), len(after))
    pairs = [(first + i, j) for i, j in _common(before[first:], after[:last])]
    if pairs:
        i, j = min(pairs, key=lambda pair: (abs(_middle_s(before[pair[0]]) - middle_s), pair))
        return [*before[: i + 1], *after[j + 1 :]]
    return [
        *(word for word in before if _middle_s(word) < middle_s),
        *(word for word in after if _middle_s(word) >= middle_s),
    ]


def _common(before: Sequence[Word], after: Sequence[Word]) -> list[tuple[int, int]]:
    """Return the places of a longest common subsequence of words that lie at about the same time."""
    heads = [_spelling(word) for word in before]
    tails = [_spelling(word) for word in after]
    longest = [[0] * (len(after) + 1) for _ in range(len(before) + 1)]

    def is_same(i: int, j: int) -> bool:
        return heads[i] == tails[j] and abs(_middle_s(before[i]) - _middle_s(after[j])) <= SAME_WORD_S

    for i in range(len(before) - 1, -1, -1):
        for j in range(len(after) - 1, -1, -1):
            with_both = longest[i + 1][j + 1] + 1 if is_same(i, j) else 0
            longest[i][j] = max(with_both, longest[i + 1][j], longest[i][j + 1])
    pairs: list[tuple[int, int]] = []
    i = j = 0
    while i < len(before) and j < len(after):
        if is_same(i, j) and longest[i][j] == longest[i + 1][j + 1] + 1:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def _spelling(word: Word) -> str:
    """Return a word without case and punctuation, which differ at the edge of a window; itself if nothing is left."""
    kept = "".join(c for c in unicodedata.normalize("NFKC", word.text).casefold() if c.isalnum())
    return kept or word.text


def _middle_s(word: Word) -> float:
    return (word.start_s + word.end_s) / 2


def _in_order(words: Sequence[Word]) -> list[Word]:
    """Return the words with times that never decrease: two windows place words a little differently."""
    ordered: list[Word] = []
    latest_s = 0.0
    for word in words:
        start_s = max(word.start_s, latest_s)
        ordered.append(attrs.evolve(word, start_s=start_s, end_s=max(start_s, word.end_s)))
        latest_s = start_s
    return ordered
