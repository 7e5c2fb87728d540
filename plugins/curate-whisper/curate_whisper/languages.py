"""The language that Whisper is asked to transcribe: the recogniser's, the record's, or the one that is detected."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from curate.errors import RecordError
from curate.text import language_code

_WHISPERS_OWN = {"jv": "jw", "fil": "tl"}
_WITHOUT_BLANKS = frozenset({"zh", "ja", "th", "lo", "my", "yue"})


def whisper_code(tag: object) -> str | None:
    """Return Whisper's code for a language tag such as `de-DE` or `deu_Latn`; None if the tag names no language."""
    code = language_code(tag)
    return None if code is None else _WHISPERS_OWN.get(code, code)


def language_of(record: Mapping[str, Any], lang_key: str, known: Collection[str]) -> str | None:
    """Return the language that a record names, None if it names none.

    Raises:
        RecordError: the model does not have the language.
    """
    tag = record.get(lang_key)
    if tag is None or tag == "":
        return None
    code = whisper_code(tag)
    if code not in known:
        raise RecordError(
            "bad_value",
            f"{lang_key}={tag!r:.80} is not a language that this model transcribes"
            + (f"; it transcribes {', '.join(known)} alone" if len(known) == 1 else "; null has it detected"),
        )
    return code


def has_blanks(language: str) -> bool:
    """Return whether the words of a language are written with blanks between them."""
    return language not in _WITHOUT_BLANKS
