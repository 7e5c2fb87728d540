"""Normalise transcripts and count their word and character errors: thin over whisper-normalizer and jiwer.

Importing this package loads neither; each is loaded by the first call that needs it.
"""

from curate.text.error_rates import ErrorRate, character_errors, corpus_rate, word_errors
from curate.text.normalisers import NORMALISERS, Normaliser, normaliser

__all__ = [
    "NORMALISERS",
    "ErrorRate",
    "Normaliser",
    "character_errors",
    "corpus_rate",
    "normaliser",
    "word_errors",
]
