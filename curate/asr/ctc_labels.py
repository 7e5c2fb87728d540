"""Reads the labels of a NeMo model's CTC decoder, for forced alignment."""

from __future__ import annotations

from typing import Any

from curate.asr.decoding import frame_s_of
from curate.errors import InfrastructureError
from curate.models import CtcLabels


def read_ctc_labels(model: Any) -> CtcLabels:
    """Return the labels of a restored model: characters, or the pieces of its tokenizer.

    Raises:
        InfrastructureError: it has no CTC decoder.
    """
    head = getattr(model, "ctc_decoder", None) or getattr(model, "decoder", None)
    if head is None or not hasattr(head, "vocabulary"):
        raise InfrastructureError(f"this {type(model).__name__} has no CTC decoder, so nothing can be aligned with it")
    tokenizer = getattr(model, "tokenizer", None)
    texts = tuple(str(text) for text in head.vocabulary)
    blank = len(texts)  # NeMo's blank is the last label
    if tokenizer is None:
        separator = texts.index(" ") if " " in texts else None
        return CtcLabels((*texts, ""), blank, frame_s_of(model), separator)
    # A WordPiece marks what continues a word, and SentencePiece what begins one.
    pieces = tuple(text[2:] if text.startswith("##") else text for text in texts)
    return CtcLabels((*pieces, ""), blank, frame_s_of(model), None, tokenizer.text_to_ids)
