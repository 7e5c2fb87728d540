"""Strangers' texts are printable bounded, and with a name for what cannot be seen."""

from __future__ import annotations

import pytest

from curate.report.sanitize import printable


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("a\x00b\x1b", "a\u2400b\u241b"),
        ("\u202eabc", "\u27e8U+202E\u27e9abc"),
        ("\ud800", "\u27e8U+D800\u27e9"),
        ("\u05e9\u200f", "\u05e9\u200f"),
        ({"a": [1, "é"]}, '{"a": [1, "é"]}'),
        ("x" * 12, "xxxxxxxxxx … (and 2 more characters)"),
    ],
)
def test_texts(value: object, text: str) -> None:
    assert printable(value, 10 if value == "x" * 12 else 100) == text
