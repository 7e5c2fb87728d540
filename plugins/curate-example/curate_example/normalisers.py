"""A normaliser is a function from string to string."""

from __future__ import annotations


def letters(text: str) -> str:
    """Return the words in lower case, with nothing but letters."""
    return " ".join("".join(sign for sign in text.lower() if sign.isalpha() or sign.isspace()).split())
