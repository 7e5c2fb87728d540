"""What a recogniser is: one plain class with `setup`, `transcribe` and `close`; and what it hears."""

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
        end_s: where it ends; never before `start_s`, never behind the end of the waveform.
        confidence: 0 to 1, or None where it was not asked for.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float | None = None


@frozen
class Transcript:
    """What a recogniser heard in one waveform.

    Args:
        text: the words; empty where it heard none.
        confidence: 0 to 1 for the whole utterance; None where it was not asked for, and where there are no words.
        words: the words in time; None where they were not asked for.
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
            One transcript per waveform, in the same order. What is said about a waveform does not depend on its
            neighbours.

        Raises:
            RecordError: a waveform cannot be recognised by any means. The engine halves the batch to find out which.
            InfrastructureError: the trouble is not the waveforms'.
        """
        ...

    def close(self) -> None:
        """Let go of the model and its memory. `setup` may follow again."""
        ...


@runtime_checkable
class SupportsAsyncDecoding(Protocol):
    """An optional protocol of recognisers: the model is free again before the text is spelt out."""

    def begin(self, waveforms: Sequence[Waveform]) -> Callable[[], list[Transcript]]:
        """Do of `transcribe` what needs the model, and return what does the rest.

        The rest is called once, perhaps in another thread while the model works on the next batch, and must not hold
        on to memory of the device.
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
