"""Made-up corpora for the tests of corpus stages."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from curate.corpus.minhash import grams
from curate.corpus.similarity import SHORT_LETTERS, count_letters, is_near_duplicate

LETTERS = "etaoinshrdlucmfwypvbgk"


def words(count: int, random_numbers: random.Random) -> list[str]:
    """Return made-up words of two to nine letters."""
    return ["".join(random_numbers.choices(LETTERS, k=random_numbers.randint(2, 9))) for _ in range(count)]


def utterances(count: int, seed: int = 0, copies: float = 0.05) -> Iterator[str]:
    """Yield utterances of 3 to 15 words; a share of them are copies of one of the last 50,000 with one change."""
    random_numbers = random.Random(seed)
    vocabulary = words(20_000, random_numbers)
    recent: list[str] = []
    for _ in range(count):
        if recent and random_numbers.random() < copies:
            text = _changed(random_numbers.choice(recent), vocabulary, random_numbers)
        else:
            text = " ".join(random_numbers.choices(vocabulary, k=random_numbers.randint(3, 15)))
        if len(recent) < 50_000:
            recent.append(text)
        else:
            recent[random_numbers.randrange(50_000)] = text
        yield text


def _changed(text: str, vocabulary: list[str], random_numbers: random.Random) -> str:
    """Return the text with one word or one letter changed."""
    split = text.split()
    place = random_numbers.randrange(len(split))
    word = split[place]
    if random_numbers.random() < 0.5:
        split[place] = random_numbers.choice(vocabulary)
    else:
        letter = random_numbers.randrange(len(word))
        split[place] = word[:letter] + random_numbers.choice(LETTERS) + word[letter + 1 :]
    return " ".join(split)


def every_near_pair(texts: list[str]) -> set[tuple[int, int]]:
    """Return all pairs of different texts that the verdict calls near duplicates, without MinHash.

    Short texts are compared each with each of a like length. Long ones by prefixes: two sets with a Jaccard similarity
    of 0.8 share one of the rarest |G| − ⌈0.8 |G|⌉ + 1 members of each, so that no pair is missed.
    """
    letters = [count_letters(text) for text in texts]
    short = sorted(
        (number for number, count in enumerate(letters) if count < SHORT_LETTERS), key=lambda n: len(texts[n])
    )
    pairs: set[tuple[int, int]] = set()
    for first in range(0, len(short), 200):
        some = short[first : first + 200]
        longest = len(texts[some[-1]]) / 0.8
        others = [number for number in short[first:] if len(texts[number]) <= longest]
        compared = [texts[number] for number in some], [texts[number] for number in others]
        edits: Any = cdist(*compared, scorer=Levenshtein.distance, score_cutoff=10)
        for row, column in zip(*(edits <= 10).nonzero(), strict=True):
            one, other = sorted((some[row], others[column]))
            if texts[one] != texts[other] and is_near_duplicate(texts[one], texts[other]):
                pairs.add((one, other))
    return pairs | _long_pairs(texts, letters)


def _long_pairs(texts: list[str], letters: list[int]) -> set[tuple[int, int]]:
    members = [grams(text) for text in texts]
    frequency = Counter(gram for each in members for gram in each)
    holders: dict[str, list[int]] = {}
    pairs: set[tuple[int, int]] = set()
    for number, each in enumerate(members):
        prefix = sorted(each, key=lambda gram: (frequency[gram], gram))[: len(each) - math.ceil(0.8 * len(each)) + 1]
        for other in {earlier for gram in prefix for earlier in holders.get(gram, ())}:
            long = max(letters[number], letters[other]) >= SHORT_LETTERS and texts[number] != texts[other]
            if long and is_near_duplicate(texts[other], texts[number]):
                pairs.add((other, number))
        for gram in prefix:
            holders.setdefault(gram, []).append(number)
    return pairs
