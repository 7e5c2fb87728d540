"""Where sentences end."""

from __future__ import annotations

_ENDS = frozenset(".?!…。？！｡।؟۔")
_CLOSING = "\"'”’»«›‹)]}」』"


def ends_sentence(word: str) -> bool:
    """Return whether a word is the last of a sentence: it ends in `.`, `?`, `!` or their like in other scripts."""
    return word.rstrip().rstrip(_CLOSING)[-1:] in _ENDS
