"""Real speech: few enough errors, and the same words after any other clips."""

from __future__ import annotations

import random
from collections.abc import Callable

import jiwer
import numpy as np
import pytest

from curate_pocketsphinx.recogniser import PocketSphinxRecogniser, Waveform

Clips = list[tuple[Waveform, str]]
Speech = Callable[[str], Clips]


def wer(recogniser: PocketSphinxRecogniser, clips: Clips) -> float:
    transcripts = recogniser.transcribe([waveform for waveform, _ in clips])
    return jiwer.wer([text for _, text in clips], [transcript.text.lower() for transcript in transcripts])


@pytest.mark.parametrize(("name", "most"), [("pocketsphinx_librivox", 0.30), ("whisper_jfk", 0.40)])
def test_word_error_rate(recogniser: PocketSphinxRecogniser, speech: Speech, name: str, most: float) -> None:
    assert wer(recogniser, speech(name)) <= most


def test_transcript_in_any_order_and_company_is_the_same(recogniser: PocketSphinxRecogniser, speech: Speech) -> None:
    """Words, times and posteriors are equal: also after clips that upset levels, noise estimate and Gaussians."""
    rng = np.random.default_rng(7)
    clips = [waveform[8000:24000] for waveform, _ in speech("pocketsphinx_librivox")]
    clips += [
        np.zeros(16000, dtype=np.float32),
        np.eye(1, 16000, 15000, dtype=np.float32)[0],
        np.eye(1, 12000, 5, dtype=np.float32)[0],
        np.full(8000, 0.9, dtype=np.float32),
        rng.normal(0, 0.3, 8000).astype(np.float32),
        rng.normal(0, 1e-4, 8000).astype(np.float32),
        np.zeros(0, dtype=np.float32),
        np.zeros(100, dtype=np.float32),
    ]
    expected = recogniser.transcribe(clips)
    for seed in range(3):
        order = list(range(len(clips)))
        random.Random(seed).shuffle(order)
        transcripts = dict(zip(order, recogniser.transcribe([clips[index] for index in order]), strict=True))
        assert [transcripts[index] for index in range(len(clips))] == expected


def test_transcript_of_a_used_recogniser_is_that_of_a_new_one(
    recogniser: PocketSphinxRecogniser, speech: Speech
) -> None:
    for waveform, _ in speech("pocketsphinx_librivox")[1:3]:
        fresh = PocketSphinxRecogniser(timestamps=True, confidence=True)
        fresh.setup()
        assert recogniser.transcribe([waveform]) == fresh.transcribe([waveform])


def test_words_come_with_times_and_posteriors(recogniser: PocketSphinxRecogniser, speech: Speech) -> None:
    waveform, _ = speech("pocketsphinx_librivox")[1]
    [transcript] = recogniser.transcribe([waveform])
    assert transcript.words
    assert " ".join(word.text for word in transcript.words) == transcript.text
    ends = [0.0]
    for word in transcript.words:
        assert word.text.strip("<>[]()0123456789") == word.text
        assert ends[-1] <= word.start_s < word.end_s <= waveform.size / recogniser.rate_hz
        assert word.confidence is not None and 0 <= word.confidence <= 1
        ends.append(word.end_s)
    assert transcript.confidence is not None and 0 <= transcript.confidence <= 1


def test_times_and_posteriors_only_when_asked(speech: Speech) -> None:
    recogniser = PocketSphinxRecogniser()
    recogniser.setup()
    [transcript] = recogniser.transcribe([speech("pocketsphinx_librivox")[1][0]])
    assert transcript.text and transcript.words is None and transcript.confidence is None
