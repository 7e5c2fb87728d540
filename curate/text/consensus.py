"""A majority text of several transcripts of the same audio, word by word, after ROVER (Fiscus 1997).

The transcripts are aligned one after the other with the words that have most votes so far; then each place has one vote
of each transcript, for a word or for none. Unlike ROVER's, votes have no weights, and ties are decided by the order of
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
    """Align a transcript with the places, and add its votes to them."""
    from rapidfuzz.distance import Levenshtein

    leading = [_leading(each).key for each in places]
    filled = [place for place, key in enumerate(leading) if key]  # a place without a word is not what a word is held to
    steps = Levenshtein.opcodes([leading[place] for place in filled], [vote.key for vote in votes])
    given: dict[int, _Vote] = {}
    inserted: list[tuple[int, _Vote]] = []
    for step in steps:
        old, new = filled[step.src_start : step.src_end], votes[step.dest_start : step.dest_end]
        if step.tag in ("equal", "replace"):
            given.update(zip(old, new, strict=True))
        elif step.tag == "insert":
            before = filled[step.src_start] if step.src_start < len(filled) else len(places)
            inserted.extend((before, vote) for vote in new)
    for place, each in enumerate(places):
        each.append(given.get(place, _NONE))
    for shift, (before, vote) in enumerate(inserted):
        places.insert(before + shift, [*([_NONE] * number), vote])


def _leading(votes: Sequence[_Vote]) -> _Vote:
    """Return the vote that most share; of equally many, that of the earliest transcript."""
    counts: dict[str, int] = {}
    for vote in votes:
        counts[vote.key] = counts.get(vote.key, 0) + 1
    return max(votes, key=lambda vote: counts[vote.key])


def _elect(votes: Sequence[_Vote]) -> AgreedWord:
    best = _leading(votes)
    return AgreedWord(best.spelling, sum(vote.key == best.key for vote in votes), best.spaced)
