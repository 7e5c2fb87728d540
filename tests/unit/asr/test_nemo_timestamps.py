"""Words lie within the clip and in order; confidence is between 0 and 1; the text stays the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.asr import NemoRecogniser, Transcript

pytestmark = pytest.mark.nemo

FRAME_S = 0.08
MODELS = [("ctc", None), ("ctc_bpe", None), ("rnnt", None), ("tdt", None), ("hybrid", "rnnt"), ("hybrid", "ctc")]


@pytest.fixture(scope="module")
def hear(checkpoint: Callable[[str], Path], clips: Any) -> Callable[..., list[Transcript]]:
    known: dict[Any, list[Transcript]] = {}

    def run(name: str, decoder: str | None, **options: Any) -> list[Transcript]:
        key = (name, decoder, *sorted(options.items()))
        if key not in known:
            engine = NemoRecogniser(checkpoint(name), decoder=decoder, **options)
            engine.setup()
            known[key] = engine.transcribe([samples for _, samples in clips] + [clips[0][1][:100]])
            engine.close()
        return known[key]

    return run


@pytest.mark.parametrize(("name", "decoder"), MODELS)
def test_words_spell_the_text_in_order_within_the_clip(name: str, decoder: str | None, hear: Any, clips: Any) -> None:
    transcripts = hear(name, decoder, timestamps=True)
    for transcript, (_, samples) in zip(transcripts, clips, strict=False):
        assert transcript.words is not None
        assert [word.text for word in transcript.words] == transcript.text.split()
        starts = [word.start_s for word in transcript.words]
        assert starts == sorted(starts)
        assert all(0 <= word.start_s <= word.end_s <= len(samples) / 16_000 for word in transcript.words)
    assert any(word.end_s > 1 for transcript in transcripts for word in transcript.words)
    assert transcripts[-1] == Transcript("", words=())


@pytest.mark.parametrize(("name", "decoder"), MODELS)
def test_confidence_is_between_0_and_1_and_rounded(name: str, decoder: str | None, hear: Any) -> None:
    transcripts = hear(name, decoder, confidence=True)
    for transcript in transcripts:
        assert transcript.words is None
        if transcript.text.strip():
            assert 0 <= transcript.confidence <= 1
            assert transcript.confidence == round(transcript.confidence, 3)
    assert transcripts[-1] == Transcript("")
    assert len({transcript.confidence for transcript in transcripts}) > 2


@pytest.mark.parametrize(("name", "decoder"), MODELS)
def test_asking_for_more_changes_no_text(name: str, decoder: str | None, hear: Any) -> None:
    plain = [transcript.text for transcript in hear(name, decoder)]
    for options in ({"timestamps": True}, {"confidence": True}, {"timestamps": True, "confidence": True}):
        assert [transcript.text for transcript in hear(name, decoder, **options)] == plain
    both = hear(name, decoder, timestamps=True, confidence=True)
    assert [t.confidence for t in both] == [t.confidence for t in hear(name, decoder, confidence=True)]
    for transcript, timed in zip(both, hear(name, decoder, timestamps=True), strict=True):
        assert [(w.text, w.start_s, w.end_s) for w in transcript.words] == [
            (w.text, w.start_s, w.end_s) for w in timed.words
        ]
        assert all(0 <= word.confidence <= 1 for word in transcript.words)


@pytest.mark.parametrize(("name", "decoder"), MODELS)
def test_every_way_of_decoding_tells_the_same_times(name: str, decoder: str | None, hear: Any) -> None:
    expected = hear(name, decoder, timestamps=True)
    one_by_one = hear(name, decoder, timestamps=True, decoding="greedy")
    if name != "tdt":  # there, NeMo's two implementations disagree about the duration of a clip's last tokens
        assert one_by_one == expected
    assert [[word.start_s for word in heard.words] for heard in one_by_one] == [
        [word.start_s for word in heard.words] for heard in expected
    ]
    if name == "rnnt" or decoder == "rnnt":
        assert hear(name, decoder, timestamps=True, label_looping=False) == expected


@pytest.mark.parametrize(("name", "decoder"), [("rnnt", None), ("hybrid", "rnnt")])
def test_every_way_of_decoding_is_equally_sure(name: str, decoder: str | None, hear: Any) -> None:
    expected = [transcript.confidence for transcript in hear(name, decoder, confidence=True)]
    for options in ({"decoding": "greedy"}, {"label_looping": False}):
        found = [transcript.confidence for transcript in hear(name, decoder, confidence=True, **options)]
        assert found == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(("name", "decoder"), [("rnnt", None), ("tdt", None), ("hybrid", "rnnt"), ("ctc_bpe", None)])
def test_times_are_those_of_nemo_to_a_few_frames(
    name: str, decoder: str | None, hear: Any, clips: Any, checkpoint: Callable[[str], Path], nemo: Any
) -> None:
    model = nemo.models.ASRModel.restore_from(str(checkpoint(name)), map_location="cpu")
    files = [str(path) for path, _ in clips]
    hypotheses = model.transcribe(files, batch_size=1, verbose=False, timestamps=True)
    compared = 0
    for transcript, hypothesis in zip(hear(name, decoder, timestamps=True), hypotheses, strict=False):
        theirs = [word for word in hypothesis.timestamp["word"] if word["word"].strip()]
        if [word["word"].strip() for word in theirs] != [word.text for word in transcript.words]:
            continue  # NeMo's words part at tokens, ours at white space; gibberish has spaces in odd places
        for our, their in zip(transcript.words, theirs, strict=True):
            compared += 1
            # NeMo begins a word at a piece that is nothing but its mark, and CTC words one token earlier.
            slack_s = FRAME_S * {"ctc_bpe": 15, "hybrid": 3}.get(name, 1.01)
            assert abs(our.start_s - their["start"]) <= slack_s
            assert abs(our.end_s - their["end"]) <= slack_s
    assert compared > 5
