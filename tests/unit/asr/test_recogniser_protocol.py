"""A stranger's recogniser is one plain class, and importing the protocol costs nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from curate.asr import Recogniser, Transcript, Word


class Parrot:
    rate_hz = 8000
    thread_safe = True

    def setup(self) -> None: ...

    def transcribe(self, waveforms: Sequence[Any]) -> list[Transcript]:
        return [Transcript("polly") for _ in waveforms]

    def close(self) -> None: ...


def test_a_plain_class_with_three_methods_is_a_recogniser() -> None:
    assert isinstance(Parrot(), Recogniser)
    assert not isinstance(object(), Recogniser)


def test_transcripts_are_values() -> None:
    transcript = Transcript("a b", confidence=0.5, words=(Word("a", 0.0, 0.1), Word("b", 0.2, 0.3)))
    assert transcript == attrs.evolve(transcript)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        transcript.text = "c"  # type: ignore[misc]
    assert Transcript("a").words is None
    assert Transcript("a").confidence is None


def test_importing_the_package_and_making_a_recogniser_loads_nothing_heavy() -> None:
    program = (
        "import sys, curate.asr; curate.asr.NemoRecogniser('some/model', timestamps=True);"
        "print([name for name in ('torch', 'nemo', 'numpy', 'yaml', 'omegaconf') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
