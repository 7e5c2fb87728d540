"""Inverse normalisation by the grammars of WeTextProcessing: numbers, dates, times and money in en, ja and zh."""

from __future__ import annotations

import functools
import re
from importlib import import_module, metadata
from typing import Any, Final

from curate.errors import RecordError

_WETEXT: Any = import_module("wetext")  # it has no types, and need not be installed where types are checked
_PARTS: Final = re.compile(r'(["\\]+)')  # the format between its two grammars has quotes around values
LANGUAGES: Final = frozenset({"en", "ja", "zh"})


class _GrammarRules:
    """The engine `wetext`."""

    def __call__(self, text: str, lang: str | None = None) -> str | None:
        """Return a transcript with its spoken forms written; None for a language that wetext has no grammar of."""
        if lang not in LANGUAGES:
            return None
        return "".join(_written(part, _grammar(lang)) for part in _PARTS.split(text))

    def fingerprint(self, model: str) -> str:
        return f"wetext {metadata.version('wetext')}"


def _written(part: str, grammar: Any) -> str:
    if not any(map(str.isalnum, part)):
        return part
    start = part[: len(part) - len(part.lstrip())]
    end = part[len(part.rstrip()) :]
    try:
        written: str = grammar.normalize(part.strip().encode("utf-8", "replace").decode())  # it reads UTF-8
    except AssertionError as error:
        raise RecordError("bad_value", f"wetext fails on {part[:60]!r}") from error
    return f"{start}{written}{end}"


@functools.cache
def _grammar(lang: str) -> Any:
    return _WETEXT.Normalizer(lang=lang, operator="itn")


write_by_grammar = _GrammarRules()
