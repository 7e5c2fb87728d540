"""Unicode's composed form, in a time that grows with the length of the text alone.

Sorting the marks behind a letter takes quadratic time in their number: minutes for a string of some hundred thousand.
Unicode's Stream-Safe Text Format (UAX #15) has at most 30 in a row, which is more than any language writes.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata

_MOST_MARKS = 30
_HARMLESS_CHARACTERS = 1000
"""A shorter string is composed quickly, whatever is in it."""


def compose(text: str) -> str:
    """Return a string in Unicode's composed form (NFC), with at most 30 marks in a row."""
    if len(text) > _HARMLESS_CHARACTERS and not text.isascii():
        text = _long_runs().sub(r"\1", text)
    return unicodedata.normalize("NFC", text)


@functools.cache
def _long_runs() -> re.Pattern[str]:
    marks = "".join(filter(unicodedata.combining, map(chr, range(sys.maxunicode + 1))))
    return re.compile(f"([{marks}]{{{_MOST_MARKS}}})[{marks}]++")
