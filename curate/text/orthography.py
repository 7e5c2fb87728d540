"""Case and punctuation errors: what a normaliser removes, counted by itself."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import attrs

from curate.text.noise import drop_noise_tags
from curate.text.script_rules import apply_script_rules, usual_spelling
from curate.text.scripts import word_units


@attrs.frozen
class _Word:
    folded: str
    written: str
    punctuation: tuple[str, ...]
    """The marks between this word and the next."""


def case_and_punctuation_errors(reference: str, hypothesis: str) -> tuple[float, float]:
    """Return the case error rate and the punctuation error rate of two texts as they are written.

    Case: words that differ in nothing but case / words that are equal but for case; 0.0 if there are none.
    Punctuation, after Meister et al. 2023: wrong, missing and superfluous marks / these and the right ones, so between
    0.0 and 1.0; marks are compared behind words that were aligned.
    """
    from rapidfuzz.distance import Levenshtein

    expected, recognised = list(_words(reference)), list(_words(hypothesis))
    steps = Levenshtein.opcodes([word.folded for word in expected], [word.folded for word in recognised])
    equal = cased = right = wrong = 0
    for step in steps:
        left = expected[step.src_start : step.src_end]
        other = recognised[step.dest_start : step.dest_end]
        if step.tag == "equal":
            equal += sum(word.folded != "" for word in left)
            cased += sum(one.written != two.written for one, two in zip(left, other, strict=True))
        pairs = zip(left, other, strict=True) if len(left) == len(other) else ()
        for one, two in pairs:
            distance = Levenshtein.distance(one.punctuation, two.punctuation)
            wrong += distance
            right += max(len(one.punctuation), len(two.punctuation)) - distance
        if len(left) != len(other):
            wrong += sum(len(word.punctuation) for word in (*left, *other))
    return cased / max(equal, 1), wrong / max(wrong + right, 1)


def _words(text: str) -> Iterator[_Word]:
    """Yield an empty word for the marks in front, and each word with the marks behind it."""
    word, marks = _Word("", "", ()), list[str]()
    for unit in word_units(drop_noise_tags(usual_spelling(text))):
        core = unit.strip("".join({character for character in unit if _is_mark(character)}))
        start = unit.index(core)
        marks += (character for character in unit[:start] if _is_mark(character))
        if core:
            yield attrs.evolve(word, punctuation=tuple(marks))
            word, marks = _Word(apply_script_rules(core), core, ()), []
        marks += (character for character in unit[start + len(core) :] if _is_mark(character))
    yield attrs.evolve(word, punctuation=tuple(marks))


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "P"
