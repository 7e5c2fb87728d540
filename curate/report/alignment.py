"""Reference and hypothesis side by side, word under word, as jiwer aligns them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Literal, TypeAlias, cast

import attrs
from loguru import logger

from curate.plugin import PluginHost
from curate.report.columns import Comparison
from curate.report.samples import Sample
from curate.report.sanitize import printable
from curate.text import character_units, language_code, word_units
from curate.text.normalisers import takes_language

_MAX_UNITS = 120
"""At most this many words, or characters, of each text are aligned; a longer text is cut there."""

Kind: TypeAlias = Literal["equal", "substitute", "delete", "insert"]


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
    return Alignment(tuple(_pairs(expected[:_MAX_UNITS], recognised[:_MAX_UNITS])), cut)


def _units(text: str, unit: str) -> list[str]:
    return word_units(text) if unit == "word" else list(character_units(text))


def _pairs(expected: list[str], recognised: list[str]) -> Iterator[Pair]:
    import jiwer

    # units are numbered, so that a word or a blank is one unit to jiwer, whatever it holds
    numbers = {unit: str(number) for number, unit in enumerate(dict.fromkeys((*expected, *recognised)))}
    words = jiwer.Compose([jiwer.ReduceToListOfListOfWords()])
    texts = [" ".join(numbers[unit] for unit in units) for units in (expected, recognised)]
    for chunk in jiwer.process_words(texts[0], texts[1], words, words).alignments[0]:
        kind = cast("Kind", chunk.type)
        left = expected[chunk.ref_start_idx : chunk.ref_end_idx]
        right = recognised[chunk.hyp_start_idx : chunk.hyp_end_idx]
        for reference, hypothesis in zip_longest(left, right, fillvalue=""):
            yield Pair(kind, printable(reference, 60), printable(hypothesis, 60))
