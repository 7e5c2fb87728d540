"""Words get the time and the confidence of the tokens that spell them."""

from __future__ import annotations

import pytest

from curate.asr.word_timestamps import Token, fold_ctc, overall_confidence, place_words
from curate.errors import RecordError

PIECES = ["▁", "▁he", "llo", "▁wor", "ld", ".", "▁x"]


def spell(ids: list[int]) -> str:
    return "".join(PIECES[index] for index in ids).replace("▁", " ").strip()


def tokens(*ids: int, width: int = 1) -> list[Token]:
    return [Token(index, frame * width, (frame + 1) * width) for frame, index in enumerate(ids)]


def times(words: object) -> list[tuple[str, float, float]]:
    return [(word.text, word.start_s, word.end_s) for word in words]  # type: ignore[attr-defined]


def test_runs_become_tokens_and_blanks_part_them() -> None:
    folded = fold_ctc([9, 9, 1, 1, 9, 1, 2, 2, 2, 9], blank=9)
    assert folded == [Token(1, 2, 4), Token(1, 5, 6), Token(2, 6, 9)]
    assert fold_ctc([], blank=9) == []
    assert fold_ctc([9, 9], blank=9) == []


def test_a_run_is_as_sure_as_its_frames_are_on_average() -> None:
    assert fold_ctc([0, 0, 1], blank=1, confidences=[0.25, 0.75, 0.0]) == [Token(0, 0, 2, 0.5)]


def test_pieces_make_words() -> None:
    placed = place_words("hello world", tokens(1, 2, 3, 4), spell, frame_s=0.1, duration_s=9.0)
    assert times(placed) == [("hello", 0.0, 0.2), ("world", 0.2, 0.4)]


def test_pieces_without_visible_characters_belong_to_no_word() -> None:
    placed = place_words("hello world", tokens(0, 1, 2, 0, 3, 4, 0), spell, frame_s=0.1, duration_s=9.0)
    assert times(placed) == [("hello", 0.1, 0.3), ("world", 0.4, 0.6)]


def test_punctuation_that_lost_its_space_stays_with_its_word() -> None:
    placed = place_words("hello.", tokens(1, 2, 0, 5), spell, frame_s=0.1, duration_s=9.0)
    assert times(placed) == [("hello.", 0.0, 0.4)]


def test_a_piece_of_two_words_gives_its_time_to_both() -> None:
    pieces = ["in the", " end"]
    placed = place_words(
        "in the end", tokens(0, 1), lambda ids: "".join(pieces[i] for i in ids), frame_s=0.1, duration_s=9.0
    )
    assert times(placed) == [("in", 0.0, 0.1), ("the", 0.0, 0.1), ("end", 0.1, 0.2)]


def test_bytes_that_mean_nothing_alone_are_spelt_together() -> None:
    raw = "né!".encode()
    placed = place_words(
        "né!", tokens(0, 1, 2, 3), lambda ids: bytes(raw[i] for i in ids).decode(errors="ignore"), 0.1, 9.0
    )
    assert times(placed) == [("né!", 0.0, 0.4)]


def test_words_never_reach_behind_the_end_of_the_clip() -> None:
    placed = place_words("hello world", tokens(1, 2, 3, 4, width=5), spell, frame_s=0.1, duration_s=1.7)
    assert times(placed) == [("hello", 0.0, 1.0), ("world", 1.0, 1.7)]
    assert times(place_words("x", [Token(6, 30, 31)], spell, frame_s=0.1, duration_s=1.7)) == [("x", 1.7, 1.7)]


def test_tokens_that_spell_another_text_are_refused() -> None:
    with pytest.raises(RecordError, match="cannot be placed in time"):
        place_words("goodbye", tokens(1, 2), spell, frame_s=0.1, duration_s=9.0)


def test_no_text_has_no_words_and_no_confidence() -> None:
    assert place_words("", [], spell, frame_s=0.1, duration_s=9.0) == ()
    assert place_words("", tokens(0), spell, frame_s=0.1, duration_s=9.0) == ()
    assert overall_confidence([]) is None
    assert overall_confidence(tokens(1)) is None


def test_confidence_is_a_rounded_mean_within_bounds() -> None:
    assert overall_confidence([Token(0, 0, 1, 0.12345), Token(1, 1, 2, 0.5)]) == 0.312
    assert overall_confidence([Token(0, 0, 1, 1.0000002)]) == 1.0
    placed = place_words("hello x", [Token(1, 0, 1, 0.2), Token(2, 1, 2, 0.4), Token(6, 2, 3, 0.9)], spell, 0.1, 9.0)
    assert [word.confidence for word in placed] == [0.3, 0.9]
