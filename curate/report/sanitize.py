"""Sanitising of untrusted strings for display: bounded length, no characters that hide or rearrange others."""

from __future__ import annotations

import json
import re
from typing import Any

_BIDI_CONTROLS = "\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Controls that change the direction of the following text. Marks of right-to-left writing are not among them."""

_UNSEEN = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ufffe\uffff\ud800-\udfff{_BIDI_CONTROLS}]")


def printable(value: Any, limit: int = 300) -> str:
    """Return a value as a string of about `limit` characters at most, with the number of those cut off, and with names
    for invisible ones."""
    text = value if isinstance(value, str) else _written(value)
    rest = len(text) - limit
    cut = text[:limit] if rest > 0 else text
    visible = _UNSEEN.sub(_name_of, cut)
    return f"{visible} … (and {rest:,} more characters)" if rest > 0 else visible


def _written(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return f"{value!r}"


def _name_of(match: re.Match[str]) -> str:
    character = ord(match[0])
    if character < 0x20:
        return chr(0x2400 + character)  # a picture of the control character
    return f"\u27e8U+{character:04X}\u27e9"
