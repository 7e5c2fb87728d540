"""Inverse normalisation by text2num: number words become digits, in English and six Romance and Germanic languages."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from importlib import metadata
from typing import Any, Final, cast

import text_to_num  # pyright: ignore[reportMissingTypeStubs]

LANGUAGES: Final = frozenset({"de", "en", "es", "fr", "it", "nl", "pt"})

_alpha2digit: Callable[[str, str], str] = cast("Any", text_to_num).alpha2digit
_SCALED = re.compile(r"(?<![\d.,])(\d+)([.,])(\d+) (1000(?:000){0,3})(?![\d.,])")
_YEAR = re.compile(r"(?<![\d.,])(1[789]|20) ([1-9]\d)(?![\d.,])")


class _NumberRules:
    """The engine `text2num`."""

    def __call__(self, text: str, lang: str | None = None) -> str | None:
        """Return a transcript with digits for its number words; None for a language that text2num does not know."""
        if lang not in LANGUAGES:
            return None
        written: str = _alpha2digit(text, lang)
        if not re.search(r"\d", text):
            # "two point five million" is left as "2.5 1000000", and "nineteen ninety five" as "19 95".
            written = _SCALED.sub(_multiplied, written)
            written = _YEAR.sub(r"\1\2", written) if lang == "en" else written
        return written

    def fingerprint(self, model: str) -> str:
        return f"text2num {metadata.version('text2num')}"


def _multiplied(match: re.Match[str]) -> str:
    product = Decimal(f"{match[1]}.{match[3]}") * Decimal(match[4])
    return f"{product.normalize():f}".replace(".", match[2])


write_numbers = _NumberRules()
