"""The columns that an alignment is written to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from curate.models import CtcLabels, Row

if TYPE_CHECKING:
    from curate.align.alignment import AlignedWord, Alignment, UncoveredAudio
    from curate.align.spelling import SpelledText
    from curate.align.word_times import WordTime

_DIGITS = 3


@attrs.frozen
class AlignmentColumns:
    """The names of the columns, and the values in them.

    Args:
        words: the column with the words.
        prefix: of the others.
    """

    words: str
    prefix: str

    @property
    def names(self) -> tuple[str, ...]:
        """The columns: words, score, missing text, uncovered audio."""
        return (self.words, f"{self.prefix}_score", f"{self.prefix}_missing", f"{self.prefix}_uncovered")

    def row(
        self,
        text: SpelledText,
        found: Alignment,
        times: Sequence[WordTime],
        labels: CtcLabels,
        duration_s: float,
    ) -> Row:
        """Return the row of one alignment.

        Args:
            text: that was aligned.
            found: the alignment.
            times: of the words found.
            labels: of the model.
            duration_s: the length of the audio.
        """
        score = found.score()
        words = _words(text, found.words, times)
        values = (
            words,
            None if score is None else round(score, _DIGITS),
            _missing(text, found.missing, words),
            [_uncovered(one, found, labels, duration_s) for one in found.uncovered],
        )
        return dict(zip(self.names, values, strict=True))


def _words(text: SpelledText, found: Sequence[AlignedWord], times: Sequence[WordTime]) -> list[dict[str, Any]]:
    """Return all words of the text. One that the audio does not have lasts no time, behind the word before it."""
    placed = {word.number: (word.score, time) for word, time in zip(found, times, strict=True)}
    words: list[dict[str, Any]] = []
    end = 0.0
    for number, word in enumerate(text.words):
        if number in placed:
            score, time = placed[number]
            start, end = round(time.start_s, _DIGITS), round(time.end_s, _DIGITS)
            rounded = None if score is None else round(score, _DIGITS)
            words.append({"word": word, "start": start, "end": end, "score": rounded})
        else:  # punctuation has no sound that could be missing
            words.append({"word": word, "start": end, "end": end, "score": 0.0 if text.tokens[number] else None})
    return words


def _missing(text: SpelledText, numbers: Sequence[int], words: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the passages of the text that the audio does not have: their words, and where they would be."""
    passages: list[list[int]] = []
    for number in numbers:
        between = range(passages[-1][-1] + 1, number) if passages else range(0)
        if passages and not any(text.tokens[each] for each in between):
            passages[-1].append(number)
        else:
            passages.append([number])
    return [
        {"text": " ".join(text.words[each[0] : each[-1] + 1]), "at": words[each[0]]["start"], "first_word": each[0]}
        for each in passages
    ]


def _uncovered(one: UncoveredAudio, found: Alignment, labels: CtcLabels, duration_s: float) -> dict[str, Any]:
    """Return a passage of audio that the text does not cover, with what the model reads in it."""
    texts = (" " if label == labels.separator else labels.texts[label] for label in one.labels)
    return {
        "start": round(min(one.start * labels.frame_s, duration_s), _DIGITS),
        "end": round(min(one.end * labels.frame_s, duration_s), _DIGITS),
        "text": " ".join("".join(texts).replace("▁", " ").split()),
        "words": round(found.extra_words(one), 1),
    }
