"""Normalisation of transcripts, and their word and character errors, on top of whisper-normalizer and jiwer.

Importing this package loads neither; the first call that needs one loads it.
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
