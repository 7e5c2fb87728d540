"""The one wording of "did you mean": a hint for a name that is not known."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from typing import Any

_MOST_NAMES = 100
"""The maximum number of names in a message: a manifest may have a million columns."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is spelt most like `name`, or None if no spelling is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def closest(name: str, known: Iterable[str]) -> str:
    """Return the hint for an unknown name: the nearest known name or, if none is close, all of them.

    A name of another framework is answered with ours, which is rarely spelt like it.
    """
    names = list(known)
    answer = foreign_answer(name)
    if answer is not None:
        return answer
    near = nearest(name, names)
    if near is not None:
        return f"did you mean {near!r}?"
    if not names:
        return "there are none"
    more = f", … ({len(names):,} in all)" if len(names) > _MOST_NAMES else ""
    return f"choose from {', '.join(names[:_MOST_NAMES])}{more}"


def foreign_answer(name: str) -> str | None:
    """Return the answer to a name of another framework; None: it is not one."""
    from curate.foreign_names import FOREIGN_NAMES  # asked for in errors alone

    return FOREIGN_NAMES.get(name)


def unknown_attribute(module: str, name: str, known: Iterable[str]) -> Exception:
    """Return the error of a module that does not have a name.

    `from … import` replaces the message of an `AttributeError`, so a name of another framework gets an `ImportError`.
    """
    message = f"module {module!r} has no attribute {name!r}: {closest(name, known)}"
    return AttributeError(message) if foreign_answer(name) is None else ImportError(message)


def unknown_keyword(target: Any, given: Iterable[str]) -> str | None:
    """Return the first keyword that a callable does not take; None: it takes all of them."""
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    return next((name for name in given if name not in parameters), None)
