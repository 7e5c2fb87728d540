"""The contract of a recogniser, as tests that its author inherits.

class TestMyModel(RecogniserContract):
    def recogniser(self):
        return MyModel()
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import cloudpickle as _cloudpickle

from curate.asr import Recogniser, Transcript

cloudpickle: Any = _cloudpickle  # it has no type stubs


class RecogniserContract:
    """Tests of one recogniser. Derive from it, name the class `Test…`, and define `recogniser()`."""

    lengths_s: ClassVar[tuple[float, ...]] = (0.3, 1.0, 0.7)
    """How long the waveforms are: tones of different pitch, and silence."""

    def recogniser(self) -> Recogniser:
        """Return the recogniser, not yet set up."""
        raise NotImplementedError(f"{type(self).__name__} must define recogniser(): return the recogniser to test")

    def waveforms(self, rate_hz: int) -> Sequence[Any]:
        """Return the waveforms to recognise, float32 at `rate_hz`; speech is better than the tones that these are."""
        import numpy as np

        tones = [
            0.3 * np.sin(2 * math.pi * (200 + 70 * place) * np.arange(round(length_s * rate_hz)) / rate_hz)
            for place, length_s in enumerate(self.lengths_s)
        ]
        return [tone.astype(np.float32) for tone in tones] + [np.zeros(rate_hz, np.float32)]

    # What is below is inherited.

    def test_it_can_be_sent_to_a_worker(self) -> None:
        """An instance holds settings only until `setup`."""
        copy = cloudpickle.loads(cloudpickle.dumps(self.recogniser(), protocol=5))
        assert type(copy) is type(self.recogniser())

    def test_every_waveform_has_a_transcript(self) -> None:
        """In the same order; confidence from 0 to 1, words in order and within the waveform."""
        with self._set_up() as (recogniser, waveforms):
            transcripts = recogniser.transcribe(waveforms)
            assert len(transcripts) == len(waveforms)
            for transcript, waveform in zip(transcripts, waveforms, strict=True):
                _check(transcript, len(waveform) / recogniser.rate_hz)

    def test_the_batch_makes_no_difference(self) -> None:
        """The text of a waveform does not depend on its neighbours."""
        with self._set_up() as (recogniser, waveforms):
            together = [transcript.text for transcript in recogniser.transcribe(waveforms)]
            alone = [recogniser.transcribe([waveform])[0].text for waveform in waveforms]
            assert alone == together, f"one at a time it gives\n{alone}\nand in one batch\n{together}"

    def test_it_can_be_set_up_again(self) -> None:
        """After `close`, `setup` may follow again."""
        recogniser = self.recogniser()
        texts: list[list[str]] = []
        for _ in range(2):
            recogniser.setup()
            try:
                texts.append([one.text for one in recogniser.transcribe(self.waveforms(recogniser.rate_hz))])
            finally:
                recogniser.close()
        assert texts[0] == texts[1]

    @contextmanager
    def _set_up(self) -> Generator[tuple[Recogniser, Sequence[Any]]]:
        recogniser = self.recogniser()
        recogniser.setup()
        try:
            assert isinstance(recogniser.rate_hz, int) and isinstance(recogniser.thread_safe, bool)
            yield recogniser, self.waveforms(recogniser.rate_hz)
        finally:
            recogniser.close()


def _check(transcript: Transcript, length_s: float) -> None:
    assert isinstance(transcript.text, str)
    assert transcript.confidence is None or 0 <= transcript.confidence <= 1, transcript
    end_s = 0.0
    for word in transcript.words or ():
        assert end_s <= word.start_s <= word.end_s <= length_s + 0.001, f"{word} lies outside of its waveform or place"
        end_s = word.start_s
