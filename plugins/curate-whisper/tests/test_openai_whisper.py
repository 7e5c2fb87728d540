"""Whisper through torch: a batch gives the tokens of one at a time, and what is finished costs nothing more."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from curate.models import AudioModel, Clip
from curate.testing import AudioModelContract

pytest.importorskip("curate_whisper", reason="the plugin is not installed: make .venv/.dev-all")

from curate_whisper.openai_whisper import OpenAIWhisperRecogniser

pytest.importorskip("torch")
pytest.importorskip("whisper")
torch_models = pytest.importorskip("torch_models")

MOST = 40


def speechlike(seconds: float, seed: int) -> np.ndarray:
    """Return noise whose loudness and colour change like those of syllables."""
    rng = np.random.default_rng(seed)
    count = int(seconds * 16_000)
    time_s = np.arange(count) / 16_000
    tone = np.sin(2 * np.pi * np.cumsum(200 + 150 * np.sin(2 * np.pi * rng.uniform(1, 4) * time_s)) / 16_000)
    return ((tone + rng.normal(0, 0.2, count)) * (0.1 + 0.2 * np.sin(9 * time_s) ** 2)).astype(np.float32)


@pytest.fixture(scope="module", params=[(80, 51864, 2.2), (128, 51866, 2.4)], ids=["80-bins", "128-bins"])
def random_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OpenAIWhisperRecogniser:
    n_mels, n_vocab, end_scale = request.param
    path = tmp_path_factory.mktemp("model") / "random.pt"
    torch_models.save_random(path, n_mels=n_mels, n_vocab=n_vocab, end_scale=end_scale)
    model = OpenAIWhisperRecogniser(path, language="en", max_new_tokens=MOST)
    model.setup()
    return model


def test_a_batch_gives_the_tokens_of_one_at_a_time_and_stops_early(random_model: OpenAIWhisperRecogniser) -> None:
    rng = random.Random(1)
    clips = [Clip(speechlike(rng.uniform(0.5, 20), seed), 16_000) for seed in range(24)]
    alone = [tokens for clip in clips for tokens in random_model.tokens([clip])]
    before = random_model.counted.steps, random_model.counted.rows
    together = random_model.tokens(clips)
    assert together == alone
    lengths = [len(tokens) for tokens in alone]
    steps, rows = (now - then for now, then in zip(
        (random_model.counted.steps, random_model.counted.rows), before, strict=True))  # fmt: skip
    with_end = [min(MOST, length + 1) for length in lengths]
    assert steps == max(with_end)
    assert rows == sum(with_end)
    assert rows < 0.98 * steps * len(clips), f"the model does not show an early stop: {lengths}"


def test_sampling_is_seeded_by_the_record(random_model: OpenAIWhisperRecogniser) -> None:
    model = OpenAIWhisperRecogniser(random_model.model, language="en", temperature=[0, 0.5], max_new_tokens=8)
    model.setup()
    clips = [Clip(speechlike(2.0, 7), 16_000, {"_id": f"manifest:{number}"}) for number in range(3)]
    first = model.tokens(clips)
    assert model.tokens(clips[::-1]) == first[::-1]
    assert first[0] != first[1], "the same audio in two records is drawn twice"
    assert not model.notes()


class TestOpenAIWhisper(AudioModelContract):
    tolerance: ClassVar[float] = 0.02

    @pytest.fixture(autouse=True)
    def _weights(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.path = tmp_path_factory.getbasetemp() / "contract.pt"
        if not self.path.exists():
            torch_models.save_random(self.path, n_mels=80, n_vocab=51865, end_scale=2.2)

    def model(self) -> AudioModel:
        return OpenAIWhisperRecogniser(
            self.path, language="en", max_new_tokens=6, timestamps=True, scores=True, report_language=True
        )


@pytest.mark.slow
def test_converted_weights_transcribe_real_speech(
    tiny_en: Path, tmp_path: Path, clips: list[Clip], corpus_wer: Any
) -> None:
    torch_models.save_converted(tmp_path / "tiny.pt", tiny_en)
    model = OpenAIWhisperRecogniser(tmp_path / "tiny.pt")
    model.setup()
    rows = [row for start in (0, 8) for row in model.infer(clips[start : start + 8])()]
    rate = corpus_wer([clip.record["text"] for clip in clips], [row["text"] for row in rows])
    steps, texts = model.counted.steps, model.counted.rows
    print(f"\nWER {rate:.4f}; decoder steps: {steps} in batches of 8, {texts} one at a time")
    assert rate <= 0.10
    assert steps < texts / 2
