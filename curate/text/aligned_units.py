"""Two texts side by side: the units of a reference, and those that were recognised in their places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Literal, TypeAlias, cast

Kind: TypeAlias = Literal["equal", "substitute", "delete", "insert"]


def aligned_units(
    expected: Sequence[str], recognised: Sequence[str], key: Callable[[str], str] = str
) -> Iterator[tuple[Kind, str, str]]:
    """Yield the pairs of a shortest edit path: what became of it, the reference's unit, the recognised one or "".

    Args:
        expected: words or characters of the reference.
        recognised: those of the transcript.
        key: units with the same key are equal.
    """
    import jiwer

    # Units are numbered, so that a word or a blank is one unit to jiwer, whatever it holds.
    numbers = {unit: str(number) for number, unit in enumerate(dict.fromkeys(map(key, (*expected, *recognised))))}
    words = jiwer.Compose([jiwer.ReduceToListOfListOfWords()])
    texts = [" ".join(numbers[key(unit)] for unit in units) for units in (expected, recognised)]
    for chunk in jiwer.process_words(texts[0], texts[1], words, words).alignments[0]:
        left = expected[chunk.ref_start_idx : chunk.ref_end_idx]
        right = recognised[chunk.hyp_start_idx : chunk.hyp_end_idx]
        for reference, hypothesis in zip_longest(left, right, fillvalue=""):
            yield cast("Kind", chunk.type), reference, hypothesis
