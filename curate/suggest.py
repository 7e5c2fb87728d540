"""The one wording of "did you mean": a hint for a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is spelt most like `name`, or None if no spelling is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return close[0] if close else None


def closest(name: str, known: Iterable[str]) -> str:
    """Return the hint for an unknown name: the nearest known name or, if none is close, all of them."""
    names = list(known)
    near = nearest(name, names)
    if near is not None:
        return f"did you mean {near!r}?"
    return f"choose from {', '.join(names)}" if names else "there are none"
