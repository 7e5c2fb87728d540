"""Transcripts are values that become rows, and importing the package costs nothing."""

from __future__ import annotations

import subprocess
import sys

import attrs
import pytest

from curate.asr import Transcript, Word, transcript_columns


def test_transcripts_are_values() -> None:
    transcript = Transcript("a b", confidence=0.5, words=(Word("a", 0.0, 0.1), Word("b", 0.2, 0.3)))
    assert transcript == attrs.evolve(transcript)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        transcript.text = "c"  # type: ignore[misc]
    assert Transcript("a").words is None
    assert Transcript("a").confidence is None


@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("confidence", [False, True])
def test_a_row_has_the_columns_that_are_asked_for(timestamps: bool, confidence: bool) -> None:
    transcript = Transcript("a", confidence=0.5, words=(Word("a", 0.0, 0.1),))
    row = transcript.row(timestamps=timestamps, confidence=confidence)
    assert tuple(row) == transcript_columns(timestamps=timestamps, confidence=confidence)
    placed = [{"word": "a", "start": 0.0, "end": 0.1}]
    assert row.get("words", placed) == placed


@pytest.mark.parametrize("name", ["Recogniser", "SupportsAsyncDecoding", "SupportsMemoryStats", "HasGpu"])
def test_a_name_of_the_earlier_interface_shows_the_present_one(name: str) -> None:
    with pytest.raises(ImportError, match=r"AudioModel(.|\n)*def infer\(self, clips\)"):
        exec(f"from curate.asr import {name}")


def test_importing_the_package_and_making_a_recogniser_loads_nothing_heavy() -> None:
    program = (
        "import sys, curate.asr; curate.asr.NemoRecogniser('some/model', timestamps=True);"
        "print([name for name in ('torch', 'nemo', 'numpy', 'yaml', 'omegaconf') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
