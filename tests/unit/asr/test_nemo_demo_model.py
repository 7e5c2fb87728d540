"""The demo's model on the demo's speech: what `transcribe()` says, alone and in any company."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curate.asr import NemoRecogniser
from curate.models import AudioModel
from curate.testing import AudioModelContract

pytestmark = pytest.mark.nemo

QUICKSTART = Path(__file__).resolve().parents[3] / "pipelines" / "quickstart"
MODEL = QUICKSTART / "model.nemo"
CTC_MODEL = MODEL.parent / "recipe" / "ctc.nemo"
RATE_HZ = 16_000


@pytest.fixture(scope="module")
def utterances(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Any, str]]:
    """Every readable utterance of the demo: (a file that NeMo can read, samples at 16 kHz, reference text).

    What is not a whole 16 kHz mono file is written out as one, so that resamplers are not what is compared.
    """
    soundfile, soxr = pytest.importorskip("soundfile"), pytest.importorskip("soxr")
    folder = tmp_path_factory.mktemp("demo")
    hopeless = json.loads((QUICKSTART / "data" / "expected.json").read_text("utf-8"))["quarantined"]
    found: list[tuple[Path, Any, str]] = []
    for line, text in enumerate((QUICKSTART / "data" / "manifest.jsonl").read_text("utf-8").splitlines(), start=1):
        if str(line) in hopeless:
            continue
        record = json.loads(text)
        path = QUICKSTART / "data" / record["audio_filepath"]
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        if rate_hz != RATE_HZ or samples.shape[1] > 1 or "offset" in record:
            start = round(record.get("offset", 0) * rate_hz)
            samples = samples[start : start + round(record["duration"] * rate_hz)]
            path = folder / f"{line}.wav"
            samples = soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ).astype("float32")
            soundfile.write(path, samples, RATE_HZ, subtype="FLOAT")
        found.append((path, samples.reshape(-1), record["text"]))
    return found


@pytest.fixture(scope="module")
def engine(nemo: Any, one_thread: None) -> Iterator[NemoRecogniser]:
    engine = NemoRecogniser(MODEL)
    engine.setup()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def expected(nemo: Any, one_thread: None, utterances: Any) -> list[str]:
    model = nemo.models.ASRModel.restore_from(str(MODEL), map_location="cpu")
    return [model.transcribe([str(path)], batch_size=1, verbose=False)[0].text for path, _, _ in utterances]


def test_every_utterance_alone_gets_the_text_of_transcribe(
    engine: NemoRecogniser, utterances: Any, expected: list[str]
) -> None:
    assert len(expected) > 40
    assert [engine.transcribe([samples])[0].text for _, samples, _ in utterances] == expected


@pytest.mark.parametrize(("batch_size", "shuffles"), [(2, 2), (5, 3), (16, 2), (64, 1)])
def test_every_utterance_in_any_batch_gets_the_text_of_transcribe(
    batch_size: int, shuffles: int, engine: NemoRecogniser, utterances: Any, expected: list[str]
) -> None:
    order = list(range(len(utterances)))
    for seed in range(shuffles):
        random.Random(seed).shuffle(order)
        heard: dict[int, str] = {}
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            transcripts = engine.transcribe([utterances[index][1] for index in batch])
            heard.update(zip(batch, (transcript.text for transcript in transcripts), strict=True))
        assert [heard[index] for index in range(len(order))] == expected


def test_the_demo_leaves_the_model_as_it_was(engine: NemoRecogniser, utterances: Any, nemo: Any) -> None:
    import torch

    restored = nemo.models.ASRModel.restore_from(str(MODEL), map_location="cpu").state_dict()
    for size in (1, 7, len(utterances)):
        engine.transcribe([samples for _, samples, _ in utterances[:size]])
    model = engine._loaded._model
    assert model.state_dict().keys() == restored.keys()
    assert all(torch.equal(value, restored[name]) for name, value in model.state_dict().items())
    assert [name for name, module in model.named_modules() if module.training] == []


def test_words_of_real_speech_follow_each_other_through_the_clip(nemo: Any, one_thread: None, utterances: Any) -> None:
    # a CTC model: a transducer may write a letter long before or after it was said
    engine = NemoRecogniser(CTC_MODEL, timestamps=True, confidence=True)
    engine.setup()
    heard = engine.transcribe([samples for _, samples, _ in utterances])
    understood = 0
    for transcript, (_, samples, reference) in zip(heard, utterances, strict=True):
        text = transcript.text
        assert [word.text for word in transcript.words] == text.split()
        edges = [edge for word in transcript.words for edge in (word.start_s, word.end_s)]
        assert edges == sorted(edges)
        assert not edges or 0 <= edges[0] <= edges[-1] <= len(samples) / RATE_HZ
        if text == reference:
            understood += 1
            assert edges[-1] - edges[0] > 0.5 * len(samples) / RATE_HZ
    assert understood > 20


def test_the_model_is_surer_of_what_it_gets_right(utterances: Any, expected: list[str]) -> None:
    engine = NemoRecogniser(MODEL, confidence=True)
    engine.setup()
    heard: Any = engine.transcribe([samples for _, samples, _ in utterances])
    right = [t.confidence for t, (_, _, reference) in zip(heard, utterances, strict=True) if t.text == reference]
    wrong = [t.confidence for t, (_, _, reference) in zip(heard, utterances, strict=True) if t.text != reference]
    assert all(0 <= value <= 1 for value in right)
    spoken = [value for value in wrong if value is not None]
    assert sum(right) / len(right) > sum(spoken) / len(spoken)


class TestNemo(AudioModelContract):
    def model(self) -> AudioModel:
        pytest.importorskip("nemo.collections.asr", reason="needs nemo_toolkit: make .venv/.dev-all")
        return NemoRecogniser(CTC_MODEL, timestamps=True)
