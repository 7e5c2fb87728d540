"""A majority text of several transcripts of the same audio, word by word, after ROVER (Fiscus 1997).

The transcripts are aligned one after the other with the words of those before; then each place has one vote of each
transcript, for a word or for none. Unlike ROVER's, votes have no weights, and ties are decided by the order of
the transcripts, so that the result is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import attrs

from curate.text.scripts import word_units


@attrs.frozen
class _Vote:
    """The vote of one transcript for one place.

    Args:
        key: the normalised word, by which votes are compared; empty: there is no word.
        spelling: the word as it is written in the transcript.
        spaced: whether a blank comes before it.
    """

    key: str = ""
    spelling: str = ""
    spaced: bool = True


_NONE = _Vote()


@attrs.frozen
class AgreedWord:
    """One place of the majority text.

    Args:
        text: the word; empty where most transcripts have none.
        votes: the number of transcripts that have it.
        spaced: whether a blank comes before it.
    """

    text: str
    votes: int
    spaced: bool


def find_majority(texts: Sequence[str], normalise: Callable[[str], str]) -> list[AgreedWord]:
    """Return the places of the majority text, in order, those included in which most transcripts have no word.

    Args:
        texts: the transcripts; of equally many votes, those of an earlier one count more.
        normalise: returns the form in which two words are compared.
    """
    places: list[list[_Vote]] = []
    for number, text in enumerate(texts):
        _add(places, list(_votes(text, normalise)), number)
    return [_elect(votes) for votes in places]


def join_words(words: Sequence[AgreedWord]) -> str:
    """Return the text of some places."""
    return "".join(f" {word.text}" if word.spaced else word.text for word in words if word.text).strip()


def _votes(text: str, normalise: Callable[[str], str]) -> Iterator[_Vote]:
    """Yield the words of a transcript. One of which nothing is left when it is normalised goes with the one before."""
    last: _Vote | None = None
    for word in text.split():
        for place, unit in enumerate(word_units(word, "auto")):
            key = normalise(unit).strip()
            if not key:
                if last is not None:
                    last = attrs.evolve(last, spelling=f"{last.spelling}{'' if place else ' '}{unit}")
                continue
            if last is not None:
                yield last
            last = _Vote(key, unit, place == 0)
    if last is not None:
        yield last


def _add(places: list[list[_Vote]], votes: Sequence[_Vote], number: int) -> None:
    """Align a transcript with the places, and add its votes to them.

    Args:
        number: the number of transcripts before it, each of which has a vote in each place.
    """
    given: dict[int, _Vote] = {}
    inserted: list[tuple[int, _Vote]] = []
    behind = 0
    for place, vote in _pairs(places, votes, number):
        if place is None and vote is not None:
            inserted.append((behind, vote))
        elif place is not None:
            behind = place + 1
            given |= {} if vote is None else {place: vote}
    for place, each in enumerate(places):
        each.append(given.get(place, _NONE))
    for shift, (before, vote) in enumerate(inserted):
        places.insert(before + shift, [*([_NONE] * number), vote])


_SUBSTITUTED, _INSERTED, _SKIPPED = 0, 1, 2


def _pairs(
    places: Sequence[Sequence[_Vote]], votes: Sequence[_Vote], number: int
) -> Iterator[tuple[int | None, _Vote | None]]:
    """Yield the places and the votes in order, with those together that are aligned.

    A vote costs at a place as many points as transcripts have another word there, or none; a place without a vote
    costs as many as have a word; a vote without a place costs as many as there are. All places are compared with a vote
    at the same time, one byte is kept for each pair, and ties are decided for the later place.
    """
    import numpy as np

    rows, columns = len(votes), len(places)
    found: dict[str, dict[int, int]] = {}
    for place, each in enumerate(places):
        for vote in each:
            by_place = found.setdefault(vote.key, {})
            by_place[place] = by_place.get(place, 0) + 1
    skipping = np.full(columns, number, np.int64)
    for place, count in found.get("", {}).items():
        skipping[place] -= count
    skipped = np.concatenate([np.zeros(1, np.int64), np.cumsum(skipping)])
    choices = np.zeros((rows + 1, columns + 1), np.uint8)
    choices[0] = _SKIPPED
    costs = skipped
    for row, vote in enumerate(votes, start=1):
        substituting = np.full(columns, number, np.int64)
        for place, count in found.get(vote.key, {}).items():
            substituting[place] -= count
        moved = costs + number
        substituted = costs[:-1] + substituting
        choices[row, 1:] = np.where(substituted <= moved[1:], _SUBSTITUTED, _INSERTED)
        choices[row, 0] = _INSERTED
        moved[1:] = np.minimum(moved[1:], substituted)
        costs = np.minimum.accumulate(moved - skipped) + skipped
        choices[row][costs < moved] = _SKIPPED
    pairs: list[tuple[int | None, _Vote | None]] = []
    row, column = rows, columns
    while row or column:
        choice = int(choices[row, column])
        row -= choice != _SKIPPED
        column -= choice != _INSERTED
        pairs.append((None if choice == _INSERTED else column, None if choice == _SKIPPED else votes[row]))
    return iter(pairs[::-1])


def _leading(votes: Sequence[_Vote]) -> _Vote:
    """Return the vote that most share; of equally many, that of the earliest transcript."""
    counts: dict[str, int] = {}
    for vote in votes:
        counts[vote.key] = counts.get(vote.key, 0) + 1
    return max(votes, key=lambda vote: counts[vote.key])


def _elect(votes: Sequence[_Vote]) -> AgreedWord:
    best = _leading(votes)
    return AgreedWord(best.spelling, sum(vote.key == best.key for vote in votes), best.spaced)
