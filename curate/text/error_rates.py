"""Word and character error rates of a hypothesis against its reference, counted over alignments of RapidFuzz."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from curate.errors import RecordError
from curate.text.scripts import Level, character_units, word_units

EDGE_CHARACTERS = 12
"""The characters at each end of the reference that `edge_errors` compares."""

_MOST_PAIRS_OF_WORDS = 10**11
_MOST_PAIRS_OF_CHARACTERS = 5 * 10**11
"""About a minute of comparing: of two different transcripts of 30 hours by words, and of 12 hours by characters."""


@attrs.frozen
class ErrorRate:
    """The errors of one hypothesis, in words or in characters.

    They belong to one alignment with the fewest errors; if several alignments have equally few, RapidFuzz chooses the
    division into substitutions, deletions and insertions.

    Args:
        max_insertion_run, max_deletion_run: the most units inserted, or deleted, one after another: a hallucination or
            a passage left out is one long run, while errors of recognition are scattered.
    """

    hits: int
    substitutions: int
    deletions: int
    insertions: int
    max_insertion_run: int = 0
    max_deletion_run: int = 0

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_length(self) -> int:
        """Words or characters in the reference; 0 for a pause."""
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float:
        """Errors per word (or character) of the reference: 0.0 if equal; insertions can raise it above 1.0.

        An empty reference counts as one word: the rate of a hallucination on a pause is the number of words in it, and
        that of a pause that was recognised as one is 0.0.
        """
        return self.errors / max(self.reference_length, 1)


def count_errors(
    reference: Sequence[str], hypothesis: Sequence[str], *, most_pairs: int = _MOST_PAIRS_OF_WORDS
) -> ErrorRate:
    """Count the errors between two sequences of units.

    Args:
        most_pairs: the maximum product of their lengths, which the time is proportional to.

    Raises:
        RecordError: `bad_value`, the sequences are too long to be compared.
    """
    from rapidfuzz.distance import Levenshtein

    if len(reference) * len(hypothesis) > most_pairs:
        raise RecordError(
            "bad_value",
            f"texts of {len(reference):,} and {len(hypothesis):,} units are too long to be compared: cut the recording",
        )
    substitutions = deletions = insertions = 0
    deletion_run = insertion_run = 0
    for step in Levenshtein.opcodes(reference, hypothesis):
        deleted, inserted = step.src_end - step.src_start, step.dest_end - step.dest_start
        if step.tag == "replace":
            substitutions += deleted
        elif step.tag == "delete":
            deletions += deleted
            deletion_run = max(deletion_run, deleted)
        elif step.tag == "insert":
            insertions += inserted
            insertion_run = max(insertion_run, inserted)
    hits = len(reference) - substitutions - deletions
    return ErrorRate(hits, substitutions, deletions, insertions, insertion_run, deletion_run)


def word_errors(reference: str, hypothesis: str, level: Level = "word") -> ErrorRate:
    """Count the word errors of a hypothesis; both texts must be normalised.

    Args:
        level: the units that are counted as words; see `curate.text.word_units`.
    """
    return count_errors(word_units(reference, level), word_units(hypothesis, level))


def character_errors(reference: str, hypothesis: str, lang: str | None = None) -> ErrorRate:
    """Count the character errors of a hypothesis; both texts must be normalised, and a run of blanks is one character.

    Blanks of scripts that separate words by no blank are not counted; see `curate.text.character_units`.
    """
    units = character_units(reference, lang), character_units(hypothesis, lang)
    return count_errors(*units, most_pairs=_MOST_PAIRS_OF_CHARACTERS)


def edge_errors(reference: str, hypothesis: str, lang: str | None = None) -> tuple[ErrorRate, ErrorRate]:
    """Count the character errors at the start and at the end: of the first and last 12 characters of both texts.

    A cut that takes the first word away, or a transcript that continues past the audio, shows there.
    """
    expected, recognised = character_units(reference, lang), character_units(hypothesis, lang)
    start = count_errors(expected[:EDGE_CHARACTERS], recognised[:EDGE_CHARACTERS])
    end = count_errors(expected[-EDGE_CHARACTERS:], recognised[-EDGE_CHARACTERS:])
    return start, end


def corpus_rate(error_rates: Iterable[ErrorRate]) -> float:
    """Return the error rate of a corpus: all errors divided by all reference words, so that long utterances weigh more.

    (In the mean of the rates a one-word utterance would count as much as a lecture.) A corpus of pauses has the number
    of its errors as its rate, as each of them has.

    Raises:
        ValueError: there are no error rates.
    """
    errors = reference_length = utterances = 0
    for each in error_rates:
        errors += each.errors
        reference_length += each.reference_length
        utterances += 1
    if not utterances:
        raise ValueError("the error rate of zero utterances is undefined")
    return errors / max(reference_length, 1)
