"""Forced alignment of known text with audio by a CTC model: paths, word times and scores.

Importing this package loads neither numpy nor torch.
"""

from curate.align.model import AlignmentModel
from curate.align.spelling import SpelledText, spell_text

__all__ = ["AlignmentModel", "SpelledText", "spell_text"]
