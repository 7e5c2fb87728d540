"""Normalisation of transcripts, and their word and character errors, on top of whisper-normalizer and RapidFuzz.

Importing this package loads neither; the first call that needs one loads it.
"""

from curate.text.error_rates import ErrorRate, character_errors, corpus_rate, edge_errors, word_errors
from curate.text.languages import Language, language_code, language_tag, parse_language
from curate.text.normalisers import NORMALISERS, Normaliser, normaliser
from curate.text.scripts import Level, character_units, main_script, word_units

__all__ = [
    "NORMALISERS",
    "ErrorRate",
    "Language",
    "Level",
    "Normaliser",
    "character_errors",
    "character_units",
    "corpus_rate",
    "edge_errors",
    "language_code",
    "language_tag",
    "main_script",
    "normaliser",
    "parse_language",
    "word_errors",
    "word_units",
]
