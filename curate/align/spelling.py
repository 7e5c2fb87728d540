"""Spells text in the labels of a CTC model, word by word."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence

import attrs

from curate.models import CtcLabels

WILDCARD = -1
"""The token for what the labels cannot spell, such as digits: it takes any sound."""

_WORD_START = "▁"


@attrs.frozen
class SpelledText:
    """Text in the labels of a model.

    Args:
        words: the words of the text, as they are written, split at white space.
        tokens: the labels of each word; `WILDCARD` stands for letters and digits without a label. A word of
            punctuation alone has none.
    """

    words: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]


def spell_text(text: str, labels: CtcLabels) -> SpelledText:
    """Return the text in a model's labels: the case is the labels' own, and punctuation without a label is left out.

    Accents without a label are left out as well; whatever else has none is a wildcard.
    """
    words = tuple(text.split())
    spell = _Speller(labels)
    return SpelledText(words, tuple(spell(word) for word in words))


class _Speller:
    """Spells words, each of them once."""

    def __init__(self, labels: CtcLabels) -> None:
        self._labels = labels
        # The blank and the separator, and names such as `<pad>` and `<unk>`, spell nothing.
        self._numbers: Mapping[str, int] = {
            text: number
            for number, text in reversed(list(enumerate(labels.texts)))
            if number not in (labels.blank, labels.separator) and text and not (len(text) > 2 and text[0] in "<[")
        }
        letters = [text.strip(_WORD_START) for text in self._numbers]
        self._has_lower = any(text != text.upper() for text in letters)
        self._has_upper = any(text != text.lower() for text in letters)
        self._characters = frozenset("".join(letters))
        self._known: dict[str, tuple[int, ...]] = {}

    def __call__(self, word: str) -> tuple[int, ...]:
        if word not in self._known:
            self._known[word] = self._spell(word)
        return self._known[word]

    def _spell(self, word: str) -> tuple[int, ...]:
        characters = self._cased(unicodedata.normalize("NFC", word.replace("’", "'")))
        spelled = [known for character in characters for known in self._labelled(character)]
        if not any(each is None or each.isalnum() for each in spelled):
            return ()
        if self._labels.encode is None:
            tokens = [WILDCARD if each is None else self._numbers[each] for each in spelled]
        else:
            tokens = self._encoded(spelled, self._labels.encode)
        return tuple(
            token for place, token in enumerate(tokens) if token != WILDCARD or place == 0 or tokens[place - 1] != token
        )

    def _cased(self, word: str) -> str:
        if self._has_lower and not self._has_upper:
            return word.lower()
        if self._has_upper and not self._has_lower:
            return word.upper()
        return word

    def _labelled(self, character: str) -> Sequence[str | None]:
        """Return the characters with labels that spell a character; None stands for a sound without a label."""
        if character in self._characters:
            return [character]
        if len(character) == 1 and (bare := unicodedata.normalize("NFKD", character)) != character:
            kept = [each for each in self._cased(bare) if each in self._characters]
            if kept:
                return kept
        return [None] if character.isalnum() else []

    def _encoded(self, spelled: Sequence[str | None], encode: Callable[[str], Sequence[int]]) -> list[int]:
        tokens: list[int] = []
        run = ""
        for each in [*spelled, None]:
            if each is not None:
                run += each
                continue
            if run:
                tokens.extend(int(token) for token in encode(run))
            tokens.append(WILDCARD)
            run = ""
        return tokens[:-1]
