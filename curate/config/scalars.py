"""Reads unquoted YAML scalars: the few forms on which all YAML readers agree; the surprising ones are refused.

YAML 1.1 and 1.2 read `no`, `010`, `1:30` or `1_000` differently, and the author may have meant a third thing.
"""

from __future__ import annotations

import math
import re

from curate.config.diagnostics import SourceLocation, config_error
from curate.config.nodes import Scalar, shortened

_WORDS: dict[str, Scalar] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_OLD_BOOLEANS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*|0x[0-9a-fA-F]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_OCTAL = re.compile(r"[-+]?0[0-9_]+|[-+]?0[ob][0-9_]+")
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_UNDERSCORED = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MAX_DIGITS = 100


def read_scalar(text: str, place: SourceLocation) -> Scalar:
    """Return the meaning of an unquoted scalar.

    Raises:
        ConfigError: YAML readers disagree about it, or it is not a finite number; the remedy is to quote it or to write
            the number plainly.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789" and text.lower() not in _OLD_BOOLEANS:
        return text
    ambiguity = _ambiguity(text)
    if ambiguity:
        raise config_error(place, ambiguity)
    if _INT.fullmatch(text):
        return int(text, 16 if "x" in text else 10)
    return float(text) if _FLOAT.fullmatch(text) else text


def _ambiguity(text: str) -> str:
    """Return why readers disagree about a scalar, or why it is not a usable number, and the remedy; empty if neither.

    The order matters: a plain integer is none of the later forms, and an octal number would also pass as a float.
    """
    if text.lower() in _OLD_BOOLEANS:
        meaning = _OLD_BOOLEANS[text.lower()]
        return f"`{text}` would be read as {meaning}: quote it, '{text}', or write {meaning}"
    quoted = f"quote it, '{shortened(text)}', if it is a string"
    is_int, is_float = _INT.fullmatch(text), _FLOAT.fullmatch(text)
    if _NOT_FINITE.fullmatch(text):
        return f"`{text}` is not a finite number: write a number, or {quoted}"
    if len(text) > _MAX_DIGITS and (is_int or is_float):
        return f"a number of {len(text)} digits is too long: {quoted}"
    if is_int:
        return ""
    if _OCTAL.fullmatch(text):
        return f"`{text}` could be octal, binary or decimal: write a plain decimal number, or {quoted}"
    if is_float and not math.isfinite(float(text)):
        return f"`{text}` is too large for a number: write a smaller one, or {quoted}"
    return _old_number(text, quoted)


def _old_number(text: str, quoted: str) -> str:
    if _SEXAGESIMAL.fullmatch(text):
        return f"`{text}` would be read to the base 60: write seconds as a plain number, or {quoted}"
    if "_" in text and _UNDERSCORED.fullmatch(text):
        return f"`{text}` would be read as a number: write it without '_', or {quoted}"
    return ""
