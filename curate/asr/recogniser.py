"""The protocol of recognisers, plain classes with `setup`, `transcribe` and `close`, and their transcripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from attrs import frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Waveform = NDArray[np.float32]
else:
    Waveform = Any


@frozen
class Word:
    """One recognised word.

    Args:
        text: the word as it stands in the transcript.
        start_s: where it begins, in seconds from the start of the waveform.
        end_s: where it ends; never before `start_s`, never after the end of the waveform.
        confidence: 0 to 1, or None where it was not asked for.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float | None = None


@frozen
class Transcript:
    """The result of a recogniser for one waveform.

    Args:
        text: the words; empty if none were recognised.
        confidence: 0 to 1 for the whole utterance; None if it was not requested, or there are no words.
        words: the words with their times; None if they were not requested.
    """

    text: str
    confidence: float | None = None
    words: tuple[Word, ...] | None = None


@runtime_checkable
class Recogniser(Protocol):
    """Turns waveforms into text, in one worker, with whatever model it likes.

    An instance is cheap to make and to copy: it holds settings. `setup` loads the model, once per worker, before the
    first `transcribe`; `close` lets it go. A plugin needs nothing else.
    """

    rate_hz: int
    """The sampling rate that `transcribe` expects; final when `setup` has returned."""

    thread_safe: bool
    """Whether several threads may call `transcribe` at the same time."""

    def setup(self) -> None:
        """Load the model.

        Raises:
            InfrastructureError: it cannot be loaded on this machine; no record is to blame.
        """
        ...

    def transcribe(self, waveforms: Sequence[Waveform]) -> list[Transcript]:
        """Recognise `waveforms` together, as one batch.

        Args:
            waveforms: one array of shape (samples,) per utterance: float32, mono, at `rate_hz`, full scale at ±1.

        Returns:
            One transcript per waveform, in the same order. The transcript of a waveform does not depend on its
            neighbours.

        Raises:
            RecordError: a waveform cannot be recognised by any means. The engine halves the batch to find out which.
            InfrastructureError: the trouble is not the waveforms'.
        """
        ...

    def close(self) -> None:
        """Release the model and its memory. `setup` may be called again."""
        ...


@runtime_checkable
class SupportsAsyncDecoding(Protocol):
    """An optional protocol of recognisers: the model is free again before the text is spelt out."""

    def begin(self, waveforms: Sequence[Waveform]) -> Callable[[], list[Transcript]]:
        """Do the part of `transcribe` that needs the model, and return a function that does the rest.

        The function is called once, perhaps in another thread while the model works on the next batch, and must not
        hold memory of the device.
        """
        ...


@runtime_checkable
class SupportsStaging(Protocol):
    """An optional protocol of recognisers: a batch is prepared on the CPU while the model works on the one before."""

    def stage(self, waveforms: Sequence[Waveform]) -> Sequence[Waveform]:
        """Return a batch in the form that `begin` and `transcribe` take fastest; called in a thread of its own.

        Raises:
            RecordError: as `transcribe` does.
            RuntimeError: as `transcribe` does, out of memory among others.
        """
        ...
