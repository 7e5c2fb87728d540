"""Reference and transcript, word by word, as jiwer aligns them."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any, Final

MAX_WORDS: Final = 400


def word_differences(reference: str, hypothesis: str) -> list[dict[str, Any]]:
    """Return the pairs of words of two texts, at most 400 of each: `kind`, `reference` and `hypothesis`.

    Args:
        reference: the reference text.
        hypothesis: the transcript. Case is not compared; everything else is.
    """
    import jiwer

    expected, recognised = reference.split()[:MAX_WORDS], hypothesis.split()[:MAX_WORDS]
    if not expected or not recognised:
        kind = "insert" if not expected else "delete"
        return [
            {"kind": kind, "reference": left, "hypothesis": right}
            for left, right in zip_longest(expected, recognised, fillvalue="")
        ]
    numbers = {word: str(at) for at, word in enumerate(dict.fromkeys(map(str.casefold, (*expected, *recognised))))}
    texts = [" ".join(numbers[word.casefold()] for word in words) for words in (expected, recognised)]
    pairs: list[dict[str, Any]] = []
    for chunk in jiwer.process_words(texts[0], texts[1]).alignments[0]:
        left = expected[chunk.ref_start_idx : chunk.ref_end_idx]
        right = recognised[chunk.hyp_start_idx : chunk.hyp_end_idx]
        pairs.extend(
            {"kind": chunk.type, "reference": one, "hypothesis": other}
            for one, other in zip_longest(left, right, fillvalue="")
        )
    return pairs
