"""The recogniser on tiny checkpoints of random weights, made here: CTC with and without a mask, and Whisper."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from curate.align import AlignmentModel
from curate.errors import InfrastructureError, PlanError, RecordError
from curate.models import AudioModel, Clip, CtcModel
from curate.testing import AudioModelContract

pytest.importorskip("curate_transformers", reason="the plugin is not installed: make .venv/.dev-all")

from curate_transformers import plugin
from curate_transformers.recogniser import TransformersRecogniser

pytest.importorskip("torch")
transformers: Any = pytest.importorskip("transformers")

_LETTERS = "|abcdefghijklmnopqrstuvwxyz'"


def save_ctc(folder: Path, *, has_mask: bool) -> Path:
    """Write a Wav2Vec2 of random weights, in the style of `large` (with a mask for padding) or of `base`."""
    torch: Any = importlib.import_module("torch")
    folder.mkdir()
    (folder / "vocab.json").write_text(
        json.dumps({name: number for number, name in enumerate(["<pad>", "<s>", "</s>", "<unk>", *_LETTERS])})
    )
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), word_delimiter_token="|")
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=has_mask, do_normalize=True)
    transformers.Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        vocab_size=4 + len(_LETTERS), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        conv_dim=(32,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, pad_token_id=0,
        feat_extract_norm="layer" if has_mask else "group", do_stable_layer_norm=has_mask,
    )  # fmt: skip
    model = transformers.Wav2Vec2ForCTC(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(40)
        model.lm_head.bias[1:4] = -1e4  # a trained model never reads <s>, </s> and <unk>
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {name: save_ctc(folder / name, has_mask=name == "masked") for name in ("masked", "unmasked")}


class _CtcContract(AudioModelContract):
    checkpoint: ClassVar[str]
    tolerance: ClassVar[float] = 0.02

    @pytest.fixture(autouse=True)
    def _checkpoint(self, checkpoints: dict[str, Path]) -> None:
        self.folder = checkpoints[self.checkpoint]

    def model(self) -> AudioModel:
        return TransformersRecogniser(self.folder, timestamps=True, confidence=True)


class TestMasked(_CtcContract):
    checkpoint = "masked"


class TestUnmasked(_CtcContract):
    checkpoint = "unmasked"


def test_words_lie_in_the_text_and_in_the_clip(checkpoints: dict[str, Path]) -> None:
    model = TransformersRecogniser(checkpoints["masked"], timestamps=True)
    model.setup()
    noise = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    [row] = model.infer([Clip(noise, 16_000)])()
    assert row["text"] and " ".join(word["word"] for word in row["words"]) == row["text"]
    assert 1.5 < row["words"][-1]["end"] <= 2.0
    [empty] = model.infer([Clip(np.zeros(16_000, np.float32), 16_000)])()
    assert (empty["text"], empty["words"]) == ("", [])
    with pytest.raises(RecordError):
        model.infer([Clip(np.full(16_000, np.nan, np.float32), 16_000)])


@pytest.mark.parametrize("name", ["masked", "unmasked"])
def test_the_text_that_a_model_reads_is_aligned_where_it_reads_it(checkpoints: dict[str, Path], name: str) -> None:
    model = TransformersRecogniser(checkpoints[name], timestamps=True)
    aligner = AlignmentModel(model)
    aligner.setup()
    assert isinstance(model, CtcModel)
    model.check_ctc()
    labels = model.ctc_labels()
    assert (labels.frame_s, labels.texts[labels.blank], labels.separator) == (0.02, "<pad>", labels.texts.index("|"))
    noise = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    clips = [Clip(noise, 16_000), Clip(noise[:20_000], 16_000), Clip(np.zeros(16_000, np.float32), 16_000)]
    together = model.log_probs(clips)
    alone = [model.log_probs([clip])[0] for clip in clips]
    assert [len(each) for each in together] == [149, 62, 0]
    assert all(np.allclose(one, other, atol=1e-3) for one, other in zip(together, alone, strict=True))
    assert np.allclose(np.exp(together[0]).sum(axis=1), 1, atol=1e-4)
    [read] = model.infer(clips[:1])()
    wrong = " ".join(word["word"][::-1] + "q" for word in read["words"][::-1])
    rows = aligner.infer([Clip(noise, 16_000, {"text": text}) for text in (read["text"].upper(), wrong)])()
    assert rows[0]["align_score"] > 0.8 > rows[1]["align_score"] + 0.2
    for word, expected in zip(rows[0]["words"], read["words"], strict=True):
        assert abs(word["start"] - expected["start"]) < 0.1


def test_a_model_without_a_ctc_head_aligns_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"architectures": ["WhisperForConditionalGeneration"], "model_type": "whisper"}'
    )
    with pytest.raises(PlanError, match="no CTC head"):
        TransformersRecogniser(tmp_path).check_ctc()


def test_a_checkpoint_of_another_task_is_refused_at_plan_time(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["BertForMaskedLM"]}')
    with pytest.raises(PlanError, match="BertForMaskedLM"):
        TransformersRecogniser(tmp_path)
    (tmp_path / "config.json").write_text(
        '{"architectures": ["WhisperForConditionalGeneration"], "model_type": "whisper"}'
    )
    assert TransformersRecogniser(tmp_path).window_s == 30.0
    with pytest.raises(PlanError, match="openai_whisper"):
        TransformersRecogniser(tmp_path, timestamps=True)
    with pytest.raises(PlanError, match=r"config\.json"):
        TransformersRecogniser(tmp_path / "nowhere")
    with pytest.raises(PlanError, match="asr_nemo"):
        TransformersRecogniser("nvidia/parakeet-ctc-1.1b")


def test_a_checkpoint_outside_the_cache_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InfrastructureError, match="download: true"):
        TransformersRecogniser("nobody/has-this-model").setup()


def test_the_announced_target_is_the_recogniser() -> None:
    [reference] = plugin.curate_recognisers()
    assert reference.load() is TransformersRecogniser
