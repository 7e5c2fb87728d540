"""Words with their times, from the tokens of a transcript and the times at which the decoder attended to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from curate.asr import Token, Word, place_words

FRAME_S = 0.02
"""The length of a frame of Whisper's encoder."""


def words_of(
    text: str,
    tokens: Sequence[int],
    jumps: Sequence[int],
    probabilities: Sequence[float] | None,
    spell: Callable[[list[int]], str],
    duration_s: float,
    *,
    has_blanks: bool = True,
) -> tuple[Word, ...]:
    """Return the words of a transcript with their times.

    Args:
        text: the transcript.
        tokens: what spells it.
        jumps: the frame at which each token begins, and the frame at which the last one ends.
        probabilities: of each token; None: words without confidence.
        spell: turns tokens into text.
        duration_s: the length of the clip, which no word exceeds.
        has_blanks: whether words are separated by blanks; without, each character or piece of several is a word.
    """
    if not tokens or not text:
        return ()
    placed = [
        Token(token, start, max(start + 1, end), None if probabilities is None else probabilities[place])
        for place, (token, start, end) in enumerate(zip(tokens, jumps[:-1], jumps[1:], strict=True))
    ]
    shown = text if has_blanks else " ".join(_pieces(tokens, spell))
    words = place_words(shown, placed, spell, FRAME_S, duration_s)
    ordered: list[Word] = []
    start_s = 0.0
    for word in words:
        start_s = max(start_s, word.start_s)
        ordered.append(Word(word.text, start_s, max(start_s, word.end_s), word.confidence))
    return tuple(ordered)


def _pieces(tokens: Sequence[int], spell: Callable[[list[int]], str]) -> list[str]:
    """Return the text in the smallest pieces that are whole characters."""
    pieces: list[str] = []
    waiting: list[int] = []
    for token in tokens:
        waiting.append(token)
        piece = spell(waiting)
        if "�" not in piece:
            pieces.append(piece.strip())
            waiting = []
    return [piece for piece in [*pieces, spell(waiting).strip()] if piece]
