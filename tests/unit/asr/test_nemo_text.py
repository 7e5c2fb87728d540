"""The text is NeMo's own, alone and in any company."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.asr import NemoRecogniser, Transcript
from curate.errors import RecordError

pytestmark = pytest.mark.nemo

MODELS = [
    ("ctc", None),
    ("ctc_bpe", None),
    ("rnnt", None),
    ("tdt", None),
    ("hybrid", None),
    ("hybrid", "rnnt"),
    ("hybrid", "ctc"),
]


@pytest.fixture(scope="module")
def recogniser(checkpoint: Callable[[str], Path]) -> Callable[..., NemoRecogniser]:
    ready: dict[Any, NemoRecogniser] = {}

    def make(name: str, **options: Any) -> NemoRecogniser:
        key = (name, *sorted(options.items()))
        if key not in ready:
            ready[key] = NemoRecogniser(checkpoint(name), **options)
            ready[key].setup()
        return ready[key]

    return make


@pytest.mark.parametrize(("name", "decoder"), MODELS)
def test_each_clip_alone_gets_the_text_of_transcribe(
    name: str, decoder: str | None, recogniser: Any, clips: Any, nemo_says: Any
) -> None:
    engine = recogniser(name, decoder=decoder)
    texts = [engine.transcribe([samples])[0].text for _, samples in clips]
    assert texts == nemo_says(name, decoder)
    assert len(set(texts)) > len(texts) // 2, "a model that says the same about everything proves nothing"


@pytest.mark.parametrize(("name", "decoder"), MODELS)
@pytest.mark.parametrize("batch_size", [2, 3, 7, 10])
def test_the_text_of_a_clip_does_not_depend_on_its_batch(
    name: str, decoder: str | None, batch_size: int, recogniser: Any, clips: Any, nemo_says: Any
) -> None:
    engine, expected = recogniser(name, decoder=decoder), nemo_says(name, decoder)
    order = list(range(len(clips)))
    for seed in range(3):
        random.Random(seed).shuffle(order)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            heard = engine.transcribe([clips[index][1] for index in batch])
            assert [transcript.text for transcript in heard] == [expected[index] for index in batch]


def test_hybrid_decoders_differ(nemo_says: Any) -> None:
    assert nemo_says("hybrid", "rnnt") != nemo_says("hybrid", "ctc")


@pytest.mark.parametrize("name", ["rnnt", "hybrid"])
def test_label_looping_finds_the_tokens_of_frame_looping(name: str, recogniser: Any, clips: Any) -> None:
    waveforms = [samples for _, samples in clips]
    by_labels = recogniser(name).transcribe(waveforms)
    assert recogniser(name, label_looping=False).transcribe(waveforms) == by_labels
    assert any(transcript.text for transcript in by_labels)


@pytest.mark.parametrize(("name", "decoder"), MODELS)
def test_batched_decoding_finds_the_tokens_of_one_at_a_time(
    name: str, decoder: str | None, recogniser: Any, clips: Any
) -> None:
    waveforms = [samples for _, samples in clips]
    one_by_one = recogniser(name, decoder=decoder, decoding="greedy").transcribe(waveforms)
    assert one_by_one == recogniser(name, decoder=decoder).transcribe(waveforms)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["ctc", "tdt", "hybrid"])
def test_half_precision_runs_on_the_cpu_with_features_in_full_precision(
    name: str, dtype: str, recogniser: Any, clips: Any
) -> None:
    import torch

    engine = recogniser(name, dtype=dtype)
    heard = engine.transcribe([samples for _, samples in clips])
    assert any(transcript.text for transcript in heard)
    model = engine._loaded._model
    assert {value.dtype for value in model.preprocessor.buffers()} == {torch.float32}
    assert {value.dtype for value in model.encoder.parameters()} == {getattr(torch, engine_dtype(dtype))}


def engine_dtype(dtype: str) -> str:
    return {"bf16": "bfloat16", "fp16": "float16"}[dtype]


@pytest.mark.parametrize("name", ["ctc", "rnnt", "tdt", "hybrid"])
def test_a_clip_too_short_for_two_frames_is_silence_and_spares_its_neighbours(
    name: str, recogniser: Any, clips: Any, nemo_says: Any
) -> None:
    samples = clips[0][1]
    engine = recogniser(name)
    heard = engine.transcribe([samples[:1], samples, samples[:319]])
    assert heard == [Transcript(""), Transcript(nemo_says(name)[0]), Transcript("")]
    assert engine.transcribe([samples[:200]]) == [Transcript("")]
    assert len(engine.transcribe([samples[:320]])) == 1


def test_waveforms_that_cannot_be_recognised_are_record_errors(recogniser: Any, clips: Any) -> None:
    import numpy as np

    engine, samples = recogniser("ctc"), clips[0][1]
    with pytest.raises(RecordError, match=r"waveform 1 of 2 has no samples") as empty:
        engine.transcribe([samples, samples[:0]])
    assert empty.value.code == "zero_samples"
    with pytest.raises(RecordError, match="NaN or infinite") as broken:
        engine.transcribe([np.array([0.0, np.nan] * 400, dtype=np.float32)])
    assert broken.value.code == "non_finite"
    with pytest.raises(TypeError, match="mono float32"):
        engine.transcribe([np.zeros((2, 16_000), dtype=np.float32)])
    with pytest.raises(TypeError, match="mono float32"):
        engine.transcribe([np.zeros(16_000, dtype=np.int16)])


def test_a_model_trained_for_beam_search_is_decoded_greedily_and_says_so(
    checkpoint: Callable[[str], Path], clips: Any, nemo_says: Any, tmp_path: Path, warnings: list[str]
) -> None:
    import tarfile

    path = tmp_path / "beam.nemo"
    with tarfile.open(checkpoint("rnnt")) as good, tarfile.open(path, "w") as changed:
        for member in good.getmembers():
            data = good.extractfile(member).read() if member.isfile() else b""
            if member.name.endswith("model_config.yaml"):
                assert b"strategy: greedy_batch" in data
                data = data.replace(b"strategy: greedy_batch", b"strategy: maes")
                member.size = len(data)
            changed.addfile(member, io.BytesIO(data))
    engine = NemoRecogniser(path)
    engine.setup()
    assert any("'maes'; 'greedy_batch' is used" in line for line in warnings)
    assert engine.transcribe([clips[0][1]])[0].text == nemo_says("rnnt")[0]


def test_no_waveforms_give_no_transcripts(recogniser: Any) -> None:
    assert recogniser("ctc").transcribe([]) == []


def test_waveforms_are_left_as_they_were(recogniser: Any, clips: Any) -> None:
    samples = clips[0][1].copy()
    samples.flags.writeable = False
    recogniser("ctc").transcribe([samples, clips[1][1]])
    assert (samples == clips[0][1]).all()
