"""What the options of executors are held to."""

from __future__ import annotations

import functools
from typing import Any, TypeVar

import attrs

from curate.suggest import closest, unknown_keyword

_T = TypeVar("_T", bound=type)


def with_answers(cls: _T) -> _T:
    """Let a class of options answer one that it does not have with the option that does the same here."""
    init: Any = vars(cls)["__init__"]

    @functools.wraps(init)
    def create(self: Any, *args: Any, **options: Any) -> None:
        name = unknown_keyword(init, options)
        if name is not None:
            known = [field.alias for field in attrs.fields(cls) if field.init]
            raise TypeError(f"{cls.__name__} has no option {name!r}: {closest(name, known)}")
        init(self, *args, **options)

    setattr(cls, "__init__", create)  # noqa: B010 (the class is only known as a type)
    return cls


def positive(_: Any, attribute: attrs.Attribute[Any], value: float | None) -> None:
    """Check that a number is above 0; None passes.

    Raises:
        ValueError: it is not.
    """
    if value is not None and not value > 0:
        raise ValueError(f"{attribute.name}={value!r}: must be above 0")
