"""Places recognised words in time: from the tokens that a decoder emitted and the frames it emitted them at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from attrs import frozen

from curate.asr.recogniser import Word
from curate.errors import RecordError

_DIGITS = 3


@frozen
class Token:
    """One emitted token, blanks left out.

    Args:
        id: its number in the vocabulary.
        start: the encoder frame at which it begins.
        end: the encoder frame at which it is over (exclusive), at least `start + 1`.
        confidence: 0 to 1, or None where it was not asked for.
    """

    id: int
    start: int
    end: int
    confidence: float | None = None


def fold_ctc(labels: Sequence[int], blank: int, confidences: Sequence[float] | None = None) -> list[Token]:
    """Turn the best label of every frame into tokens: runs of one label become one token, blanks separate.

    A token lasts as long as its run. (NeMo lets each token begin where the one before it began and end where its own
    run begins, so that its words lie early by one token and a word of a single token may last no time at all.)

    Args:
        labels: (T,) the best label of each frame, blanks included.
        blank: the label that means "nothing".
        confidences: (T,) of each frame; a token's is the mean over its run.
    """
    tokens: list[Token] = []
    frame = 0
    while frame < len(labels):
        end = frame + 1
        while end < len(labels) and labels[end] == labels[frame]:
            end += 1
        if labels[frame] != blank:
            sure = None if confidences is None else mean(confidences[frame:end])
            tokens.append(Token(labels[frame], frame, end, sure))
        frame = end
    return tokens


def place_words(
    text: str, tokens: Sequence[Token], spell: Callable[[list[int]], str], frame_s: float, duration_s: float
) -> tuple[Word, ...]:
    """Give every word of `text` the time and the confidence of the tokens that spell it.

    Words are the transcript's own, split at white space, so that words and text always agree. Tokens are laid along the
    text by their visible characters: that holds for characters, SentencePiece and WordPiece alike, and does not mind
    the space that NeMo takes away before punctuation.

    Args:
        text: the transcript.
        tokens: what spells it, in order.
        spell: turns token ids into text.
        frame_s: the length of one encoder frame.
        duration_s: the length of the waveform; no word lasts longer.

    Raises:
        RecordError: the tokens do not spell the text.
    """
    words = text.split()
    owners = _owners([_visible(spell([token.id])) for token in tokens])
    if len(owners) != _visible(text):
        # Pieces that are only part of a character, such as raw bytes, mean nothing alone: spell ever longer beginnings.
        ids = [token.id for token in tokens]
        so_far = [_visible(spell(ids[:count])) for count in range(len(ids) + 1)]
        owners = _owners([after - before for before, after in pairwise(so_far)])
    if len(owners) != _visible(text):
        raise RecordError("stage_error", f"the words of {text!r} cannot be placed in time: its tokens spell otherwise")
    placed: list[Word] = []
    at = 0
    for word in words:
        spelt_by = tokens[owners[at] : owners[at + len(word) - 1] + 1]
        at += len(word)
        end_s = min(max(token.end for token in spelt_by) * frame_s, duration_s)
        start_s = min(spelt_by[0].start * frame_s, end_s)
        placed.append(Word(word, round(start_s, _DIGITS), round(end_s, _DIGITS), overall_confidence(spelt_by)))
    return tuple(placed)


def overall_confidence(tokens: Sequence[Token]) -> float | None:
    """Return the mean confidence of `tokens`, 0 to 1, rounded; None if no token has one.

    Rounded, because the last bits of a model's scores depend on the batch size and on the number of threads.
    """
    known = [token.confidence for token in tokens if token.confidence is not None]
    return round(min(max(mean(known), 0.0), 1.0), _DIGITS) if known else None


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean of at least one value."""
    return sum(values) / len(values)


def _visible(text: str) -> int:
    return len("".join(text.split()))


def _owners(widths: Sequence[int]) -> list[int]:
    """Return, for each visible character, the index of the token that spells it."""
    return [index for index, width in enumerate(widths) for _ in range(width)]
