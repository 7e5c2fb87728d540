"""Transcripts: what a recogniser, an `AudioModel` that writes `text`, returns for each clip."""

from __future__ import annotations

from typing import Any

from attrs import frozen

TRANSCRIPT_COLUMNS = ("text", "words", "confidence")
"""The columns of a recogniser's row that the ASR stages know; it may declare others in addition."""


@frozen
class Word:
    """One recognised word; in a row `{word, start, end, score}`, as every stage that reads or writes `words` has it.

    Args:
        text: the word as it stands in the transcript.
        start_s: where it begins, in seconds from the start of the waveform.
        end_s: where it ends; never before `start_s`, never after the end of the waveform.
        confidence: 0 to 1, or None where it was not asked for.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float | None = None

    def row(self) -> dict[str, Any]:
        """Return the word as an element of the column `words`; without `score` where there is no confidence."""
        row: dict[str, Any] = {"word": self.text, "start": self.start_s, "end": self.end_s}
        return row if self.confidence is None else row | {"score": self.confidence}


@frozen
class Transcript:
    """The result of a recogniser for one waveform.

    Args:
        text: the words; empty if none were recognised.
        confidence: 0 to 1 for the whole utterance; None if it was not requested, or there are no words.
        words: the words with their times; None if they were not requested.
    """

    text: str
    confidence: float | None = None
    words: tuple[Word, ...] | None = None

    def row(self, *, timestamps: bool = False, confidence: bool = False) -> dict[str, Any]:
        """Return the transcript as a model's row: `text`, and where requested `words` and `confidence`."""
        row: dict[str, Any] = {"text": self.text}
        if timestamps:
            row["words"] = [word.row() for word in self.words or ()]
        if confidence:
            row["confidence"] = self.confidence
        return row


def transcript_columns(*, timestamps: bool, confidence: bool) -> tuple[str, ...]:
    """Return the columns of `Transcript.row` with the same arguments."""
    optional = (("words", timestamps), ("confidence", confidence))
    return ("text", *(name for name, wanted in optional if wanted))
