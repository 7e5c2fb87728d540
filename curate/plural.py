"""The one wording of a number of things: "1 record", "1,200 records"."""

from __future__ import annotations


def counted(number: int, noun: str = "record") -> str:
    """Return a number with its noun, in the plural where it is not 1."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def have(number: int) -> str:
    """Return the verb of a number of things: "has" of 1, otherwise "have"."""
    return "has" if number == 1 else "have"
