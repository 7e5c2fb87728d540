"""Word and character error rates of a hypothesis against its reference, counted by jiwer."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from curate.errors import RecordError

if TYPE_CHECKING:
    import jiwer


@attrs.frozen
class ErrorRate:
    """The errors of one hypothesis, in words or in characters.

    They belong to one alignment with the fewest errors; if several alignments have equally few, jiwer chooses the
    division into substitutions, deletions and insertions.
    """

    hits: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_length(self) -> int:
        """Words or characters in the reference, at least 1."""
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float:
        """Errors per word (or character) of the reference: 0.0 if equal; insertions can raise it above 1.0."""
        return self.errors / self.reference_length


def word_errors(reference: str, hypothesis: str) -> ErrorRate:
    """Count the word errors of a hypothesis; both texts must be normalised, and whitespace separates words.

    Takes one pair per call: a list of pairs in one call of jiwer would save only a third of its 15 µs, and normalising
    costs more than that.

    Raises:
        RecordError: `empty_text` if the reference has no word. An empty hypothesis is valid: its rate is 1.0.
    """
    import jiwer

    words, _ = _transforms()
    result = jiwer.process_words(_reference(reference), _single_blanks(hypothesis), words, words)
    return _error_rate(result)


def character_errors(reference: str, hypothesis: str) -> ErrorRate:
    """Count the character errors of a hypothesis; both texts must be normalised, and a run of blanks is one character.

    Raises:
        RecordError: `empty_text` if the reference has only blanks. An empty hypothesis is valid: its rate is 1.0.
    """
    import jiwer

    _, characters = _transforms()
    result = jiwer.process_characters(_reference(reference), _single_blanks(hypothesis), characters, characters)
    return _error_rate(result)


def corpus_rate(error_rates: Iterable[ErrorRate]) -> float:
    """Return the error rate of a corpus: all errors divided by all reference words, so that long utterances weigh more.

    (In the mean of the rates a one-word utterance would count as much as a lecture.)

    Raises:
        ValueError: there are no error rates.
    """
    errors = reference_length = 0
    for each in error_rates:
        errors += each.errors
        reference_length += each.reference_length
    if not reference_length:
        raise ValueError("the error rate of zero utterances is undefined")
    return errors / reference_length


@functools.cache
def _transforms() -> tuple[jiwer.Compose, jiwer.Compose]:
    # jiwer's defaults leave a tab inside a word and cost a third more; `_single_blanks` handles whitespace instead.
    import jiwer

    return (
        jiwer.Compose([jiwer.ReduceToListOfListOfWords()]),
        jiwer.Compose([jiwer.ReduceToListOfListOfChars()]),
    )


def _reference(text: str) -> str:
    text = _single_blanks(text)
    if not text:
        raise RecordError("empty_text", "the reference is empty after normalising, so its error rate is undefined")
    return text


def _single_blanks(text: str) -> str:
    return " ".join(text.split())


def _error_rate(result: jiwer.WordOutput | jiwer.CharacterOutput) -> ErrorRate:
    return ErrorRate(
        hits=result.hits,
        substitutions=result.substitutions,
        deletions=result.deletions,
        insertions=result.insertions,
    )
