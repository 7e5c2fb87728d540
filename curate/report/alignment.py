"""Reference and hypothesis side by side, word under word, as jiwer aligns them."""

from __future__ import annotations

import attrs
from loguru import logger

from curate.plugin import PluginHost
from curate.report.columns import Comparison
from curate.report.samples import Sample
from curate.report.sanitize import printable
from curate.text import character_units, language_code, word_units
from curate.text.aligned_units import Kind, aligned_units
from curate.text.normalisers import takes_language

_MAX_UNITS = 120
"""At most this many words, or characters, of each text are aligned; a longer text is cut there."""


@attrs.frozen
class Pair:
    """A word of the reference and the word that was recognised in its place; one of them may be missing."""

    kind: Kind
    reference: str
    hypothesis: str


@attrs.frozen
class Alignment:
    """Two texts, aligned.

    Args:
        cut: whether there is more of them.
    """

    pairs: tuple[Pair, ...]
    cut: bool


def align(sample: Sample, compared: Comparison, host: PluginHost) -> Alignment:
    """Align a sample's texts, normalised as the stage did it; as they are where the normaliser fails or is missing."""
    reference, hypothesis = sample.reference, sample.hypothesis or ""
    try:
        normalise = host.normaliser(compared.normaliser).load()
        known = {"lang": language_code(sample.others.get("lang"))} if takes_language(normalise) else {}
        reference, hypothesis = str(normalise(reference, **known)), str(normalise(hypothesis, **known))
    except Exception as error:  # noqa: BLE001 (third-party code, on any string)
        logger.debug("normaliser {!r} was not applied to {}: {}", compared.normaliser, sample.id, error)
    expected, recognised = _units(reference, compared.unit), _units(hypothesis, compared.unit)
    cut = max(len(expected), len(recognised)) > _MAX_UNITS
    pairs = aligned_units(expected[:_MAX_UNITS], recognised[:_MAX_UNITS])
    return Alignment(tuple(Pair(kind, printable(one, 60), printable(other, 60)) for kind, one, other in pairs), cut)


def _units(text: str, unit: str) -> list[str]:
    return word_units(text) if unit == "word" else list(character_units(text))
