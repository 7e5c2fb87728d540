"""The protocol by which a model over audio gives CTC log-probabilities, frame by frame.

Forced alignment needs them (`curate.align`). A recogniser that has a CTC head implements `CtcModel` in addition to
`AudioModel`; one without it does not, and the plan refuses to align with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from curate.models.clip import Clip

    LogProbs = NDArray[np.float32]
else:
    LogProbs = Any


@attrs.frozen
class CtcLabels:
    """The labels of a CTC model: what the columns of its log-probabilities mean.

    Args:
        texts: the text of each label, in the order of the columns; that of the blank does not count. A piece that
            begins a word starts with `▁`, as SentencePiece writes it.
        blank: the column of the blank.
        frame_s: the length of one frame, in seconds.
        separator: the column of the label that stands between words, such as " " or "|"; None: pieces mark where words
            begin.
        encode: returns the labels of a word, for vocabularies of pieces; None: one label for each character.
    """

    texts: tuple[str, ...]
    blank: int
    frame_s: float
    separator: int | None = None
    encode: Callable[[str], Sequence[int]] | None = attrs.field(default=None, eq=False, repr=False)


@runtime_checkable
class CtcModel(Protocol):
    """What an `AudioModel` implements in addition, to give log-probabilities. Called in the model's thread."""

    def check_ctc(self) -> None:
        """Check, without loading the model, that it has a CTC head.

        Raises:
            PlanError: it has none.
        """
        ...

    def ctc_labels(self) -> CtcLabels:
        """Return the labels; called after `setup`."""
        ...

    def log_probs(self, clips: Sequence[Clip]) -> Sequence[LogProbs]:
        """Return the natural logarithms of the labels' probabilities for each clip, float32, (frames, labels).

        Frame k of a clip describes its audio from `k * frame_s`. A clip too short for a frame has none. The result of a
        clip does not depend on its neighbours, to rounding.

        Raises:
            RecordError, InfrastructureError, RuntimeError: as `AudioModel.infer`.
        """
        ...
